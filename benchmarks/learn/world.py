"""Toy Faces driven in-process and fast: sampling, replay with gradients, decoding.

The U-Net, text encoder, autoencoder and noise schedule of ComfyUI's nodes, called without its
guider: guidance is one batch of both prompts. Sampling runs compiled, in bfloat16 where the
processor has it; gradients are taken in float32 (bfloat16 convolutions have slow gradients on a
CPU), and latents, noise, the LoRA and its optimizer always are. All methods share this path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pxpo_core.denoiser import Denoiser
from pxpo_core.lora import ALL_LAYERS, LoRAConfig, LoRALayers, Policy, new_policy, target_layers
from pxpo_core.rollout import Trajectory, draw_noise, sample_trajectory
from pxpo_core.transition import as_schedule

T = TypeVar("T")
LATENT = (4, 32, 32)
CHUNK = 16
"""Images per network call, twice as many rows with guidance; compiled once for this size."""


@dataclass(frozen=True)
class Settings:
    """How pictures are sampled; the nodes' defaults."""

    steps: int = 16
    cfg: float = 3.5
    scheduler: str = "karras"
    eta: float = 1.0


class ToyWorld:
    """Toy Faces and everything that is computed once for it."""

    def __init__(self, settings: Settings, fast: bool = True, threads: int = 2) -> None:
        import comfy.samplers

        from demo.toy_faces.loader import load_clip, load_model, load_vae

        torch.set_num_threads(threads)
        self.settings, self.fast = settings, fast
        # Where the processor has no bfloat16 it is slower than float32.
        native = fast and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.precision = "bfloat16" if native else "float32"
        patcher = load_model()
        self._model, self._clip = patcher.model, load_clip()
        self._vae = load_vae().first_stage_model
        self.network = patcher.model.diffusion_model
        self._adaptable = {
            f"{name}.weight": layer.weight.detach()
            for name, layer in target_layers(self.network, ALL_LAYERS).items()
        }
        sampling = patcher.get_model_object("model_sampling")
        self.sigmas = as_schedule(
            comfy.samplers.calculate_sigmas(sampling, settings.scheduler, settings.steps)
        )
        self._timesteps = {
            sigma: float(sampling.timestep(torch.tensor([sigma]))[0]) for sigma in self.sigmas[:-1]
        }
        self._compiled = torch.compile(self._network, dynamic=False) if fast else self._network
        self._contexts: dict[str, Tensor] = {}

    def new_policy(self, target_modules: str = ALL_LAYERS, seed: int = 0) -> Policy:
        """A LoRA of rank 8 that has learned nothing."""
        return new_policy(self.network, LoRAConfig(target_modules=target_modules, init_seed=seed))

    def context(self, prompt: str) -> Tensor:
        """Text conditioning of a prompt: [1, tokens, width]."""
        if prompt not in self._contexts:
            with torch.no_grad():
                encoded = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(prompt))
            self._contexts[prompt] = encoded[0][0].detach().float().clone()
        return self._contexts[prompt]

    def sample(
        self,
        policy: Policy | None,
        prompts: Sequence[str],
        seed: int,
        round_: int,
        start: Tensor | None = None,
        cfg: float | None = None,
    ) -> Trajectory:
        """One trajectory per prompt; noise depends on (seed, round_, place) only.

        start: one unit noise [4, 32, 32] that all of them start from, or None. cfg: another
        guidance than the settings'.
        """
        count = self.settings.steps + 1
        noise = draw_noise(LATENT, count, seed, round_, range(len(prompts)))
        first = noise[0] if start is None else start.expand_as(noise[0])
        return self.sample_from(policy, prompts, first, noise[1:], cfg)

    def sample_from(
        self,
        policy: Policy | None,
        prompts: Sequence[str],
        start: Tensor,
        noises: Tensor,
        cfg: float | None = None,
    ) -> Trajectory:
        """start: unit noise of x_T [B, 4, 32, 32]; noises: z of each step [T, B, 4, 32, 32]."""
        x = start * (1.0 + self.sigmas[0] ** 2) ** 0.5
        layers = None if policy is None else LoRALayers(policy)
        session = WorldSession(self, layers, prompts, cfg)
        eta = self.settings.eta
        with torch.no_grad():
            return session(lambda d: sample_trajectory(d, x, noises, self.sigmas, "vp", eta))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, 256, 256, 3] in 0..1 of model-space latents [B, 4, 32, 32]."""
        parts = []
        for part in self._model.latent_format.process_out(latents).split(8):
            pixels = self._vae.decode(part.contiguous(memory_format=torch.channels_last))
            parts.append(((pixels + 1.0) / 2.0).clamp(0.0, 1.0).permute(0, 2, 3, 1).contiguous())
        return torch.cat(parts)

    def denoised(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        sigma: float,
        context: Tensor,
        cfg: float,
        compiled: bool,
    ) -> Tensor:
        """D(x, sigma) with guidance, [b, 4, 32, 32].

        weights: from `merged`. context: [2b, tokens, width], the empty prompts first.
        """
        rows = torch.cat([x, x]) / (sigma**2 + 1.0) ** 0.5
        t = torch.full((len(rows),), self._timesteps[sigma])
        # The compiled network always takes 2 CHUNK rows: half as many are faster without it.
        if compiled and len(rows) > CHUNK:
            v = self._compiled_call(dict(weights), rows, t, context)
        else:
            v = self._network(dict(weights), rows, t, context)
        empty, asked = v.chunk(2)
        guided = empty + cfg * (asked - empty)
        return x / (sigma**2 + 1.0) - guided * (sigma / (sigma**2 + 1.0) ** 0.5)

    def _compiled_call(
        self, weights: dict[str, Tensor], rows: Tensor, t: Tensor, context: Tensor
    ) -> Tensor:
        """The network on up to as many rows as it is compiled for, filled up with repetitions."""
        count = len(rows)
        places = torch.arange(2 * CHUNK) % count
        if count < 2 * CHUNK:
            rows, t, context = rows[places], t[places], context[places]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self._compiled(weights, rows, t, context).float()[:count]

    def _network(
        self, weights: dict[str, Tensor], rows: Tensor, t: Tensor, context: Tensor
    ) -> Tensor:
        """The U-Net with some of its weights replaced."""
        options = {"optimized_attention_override": _torch_attention}
        return torch.func.functional_call(
            self.network,
            weights,
            (rows, t),
            {"context": context, "transformer_options": options},
        )

    def merged(self, layers: LoRALayers | None) -> dict[str, Tensor]:
        """The weights of every layer that a LoRA could change, changed; differentiable in it.

        Always the same names: the network is compiled for them.
        """
        merged = dict(self._adaptable)
        if layers is None:
            return merged
        for name in layers.names:
            down = layers.parameters[f"{name}.lora_down.weight"]
            up = layers.parameters[f"{name}.lora_up.weight"]
            base = self._adaptable[f"{name}.weight"]
            delta = (up.flatten(1) @ down.flatten(1)).view(base.shape)
            merged[f"{name}.weight"] = base + layers.config.scaling * delta
        return merged


class WorldSession:
    """A `pxpo_core.denoiser.Session` on Toy Faces; layers None: the base model."""

    def __init__(
        self,
        world: ToyWorld,
        layers: LoRALayers | None,
        prompts: Sequence[str],
        cfg: float | None = None,
        compiled: bool = True,
    ) -> None:
        """compiled: sample so, which pays for a whole chunk at least."""
        self._world, self._layers, self._prompts = world, layers, prompts
        self._fast = compiled and world.fast
        self._cfg = world.settings.cfg if cfg is None else cfg

    def __call__(self, work: Callable[[Denoiser], T]) -> T:
        sampling = not torch.is_grad_enabled()
        # A sampling call never changes the weights: merge them once.
        fixed = self._world.merged(self._layers) if sampling else None
        # What gradients are compared with (the anchor's reference) needs their precision.
        compiled = sampling and self._fast

        def denoise(x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
            parts = []
            for start in range(0, len(x), CHUNK):
                rows = samples[start : start + CHUNK]
                weights = self._world.merged(self._layers) if fixed is None else fixed
                context = torch.cat(
                    [self._world.context("")] * len(rows)
                    + [self._world.context(self._prompts[i]) for i in rows]
                )
                part = x[start : start + CHUNK]
                parts.append(
                    self._world.denoised(weights, part, sigma, context, self._cfg, compiled)
                )
            return torch.cat(parts)

        return work(denoise)


def _torch_attention(_chosen: Any, *args: Any, **kwargs: Any) -> Tensor:
    import comfy.ldm.modules.attention

    return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
