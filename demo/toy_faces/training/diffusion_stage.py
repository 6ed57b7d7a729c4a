"""Stage 3: the U-Net and the text encoder, trained together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.ops
import numpy as np
import torch
from torch import Tensor, nn

from ..captions import random_caption
from ..host_model import ToyModelConfig
from ..text_encoder import ToyTextModel
from ..tokenizer import END, FIRST_UNKNOWN, MAX_LENGTH, PAD, START, UNKNOWN_BUCKETS, word_ids
from .common import StageReport, Stopwatch, apply_step, channels_last, log, trapezoid
from .initialise import ZERO_SUFFIXES, initialise
from .latents_stage import SPREAD, LatentSet


@dataclass(frozen=True)
class DiffusionConfig:
    """Hyperparameters of the diffusion stage.

    `empty_prompt` is the share of empty prompts (for classifier-free guidance), `filler` the share
    of captions with one to three unknown words, which teaches the model to ignore them. An error of
    the predicted latent weighs clamp(SNR, snr_floor, snr_cap): the cap as in arXiv 2303.09556; the
    floor so that the noisiest steps, where only the prompt tells a colour, are learned at all.
    """

    steps: int
    batch: int = 32
    lr: float = 1e-3
    warmup: int = 150
    ema: float = 0.995
    empty_prompt: float = 0.12
    filler: float = 0.1
    snr_floor: float = 0.2
    snr_cap: float = 5.0
    save_every: int = 250


class Policy(nn.Module):
    """U-Net and text encoder as one module, so that one optimizer and one average cover both."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = ToyModelConfig().get_model({}).diffusion_model
        self.text = ToyTextModel({}, torch.float32, "cpu", comfy.ops.disable_weight_init)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Predicted v [B, 4, h, w] for x_t, integer times [B] and token ids [B, L]."""
        velocity: Tensor = self.unet(x, t.float(), self.text(tokens)[0])
        return velocity


def alphas_cumprod() -> Tensor:
    """SD's scaled-linear schedule, [1000] float32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return torch.cumprod(1 - betas, 0).float()


def caption_ids(
    data: LatentSet, index: int, config: DiffusionConfig, rng: np.random.Generator
) -> list[int]:
    """Padded ids of a fresh random caption of one portrait."""
    words: list[int] = []
    if rng.random() >= config.empty_prompt:
        words = word_ids(random_caption(data.attributes[index], rng))
        if rng.random() < config.filler:
            for _ in range(rng.integers(1, 4)):
                unknown = FIRST_UNKNOWN + int(rng.integers(UNKNOWN_BUCKETS))
                words.insert(int(rng.integers(len(words) + 1)), unknown)
    ids = [START, *words[: MAX_LENGTH - 2], END]
    return ids + [PAD] * (MAX_LENGTH - len(ids))


def batch_loss(
    policy: Policy,
    data: LatentSet,
    config: DiffusionConfig,
    schedule: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """Weighted v-prediction loss (arXiv 2202.00512) of one random batch."""
    picks = rng.integers(len(data.latents), size=config.batch)
    tokens = torch.tensor([caption_ids(data, int(i), config, rng) for i in picks])
    noise = torch.from_numpy(
        rng.standard_normal((config.batch, *data.latents.shape[1:]), dtype=np.float32)
    )
    # One time per equal slice of the schedule: the same distribution, less variance between steps.
    t = torch.from_numpy(
        (np.arange(config.batch) + rng.random(config.batch)) * (1000 / config.batch)
    ).long()
    a = schedule[t].view(-1, 1, 1, 1)
    latents = data.latents[torch.from_numpy(picks)]
    x = a.sqrt() * latents + (1 - a).sqrt() * noise
    velocity = a.sqrt() * noise - (1 - a).sqrt() * latents
    predicted = policy(x.to(memory_format=torch.channels_last), t, tokens)
    snr = SPREAD**2 * a / (1 - a)
    # sqrt(1 - a) times the error of v is the error of the predicted latent.
    weight = snr.clamp(config.snr_floor, config.snr_cap) * (1 - a) / SPREAD**2
    return ((predicted - velocity).square() * weight).mean()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * model, in place."""
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)


def new_policy(seed: int) -> Policy:
    """A freshly initialised policy, channels last, trainable."""
    torch.manual_seed(seed)
    policy = Policy()
    initialise(policy.unet, ZERO_SUFFIXES)
    initialise(policy.text)
    channels_last(policy).requires_grad_(True)
    return policy


def train_diffusion(
    data: LatentSet,
    config: DiffusionConfig,
    seed: int,
    checkpoint: Path,
    on_save: Callable[[Policy], None],
) -> tuple[Policy, StageReport]:
    """Train, resuming from `checkpoint` if it exists; returns the averaged policy.

    Every step draws from a generator seeded with (seed, step): resuming repeats an unbroken run.
    """
    watch = Stopwatch()
    policy = new_policy(seed)
    average = copy.deepcopy(policy).requires_grad_(False)
    parameters = list(policy.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    start, running = 0, 0.0
    if checkpoint.is_file():
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        policy.load_state_dict(state["policy"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start, running = state["step"], state["loss"]
        watch.add(*state["seconds"])
    schedule = alphas_cumprod()
    for step in range(start, config.steps):
        loss = batch_loss(policy, data, config, schedule, np.random.default_rng((seed, step)))
        lr = config.lr * trapezoid(step, config.steps, config.warmup)
        apply_step(optimizer, parameters, loss, lr, clip=1.0)
        update_average(average, policy, min(config.ema, (step + 1) / (step + 10)))
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        done = step + 1
        if done % 50 == 0:
            log.info("diffusion step %d loss %.4f lr %.1e", done, running, lr)
        if done % config.save_every == 0 or done == config.steps:
            state = {
                "policy": policy.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
                "loss": running,
                "seconds": watch.elapsed(),
            }
            partial = checkpoint.with_suffix(".part")
            torch.save(state, partial)
            partial.replace(checkpoint)
            on_save(average)
    return average.eval(), watch.report("diffusion", config.steps, loss=running)
