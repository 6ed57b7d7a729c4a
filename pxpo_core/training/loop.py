"""Rounds of training: sample, score, update, write; in one process or in several."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from ..backends.diffusers.conditioning import Prompt, encode
from ..backends.diffusers.loading import load_pipeline
from ..backends.diffusers.model import PipelineModel
from ..backends.diffusers.peft_layers import PEFTLayers
from ..backends.diffusers.schedule import SCHEDULES
from ..backends.diffusers.session import ReplaySession, SamplingJob, sample
from ..credit import joined
from ..lora import Policy, check_fits, new_policy
from ..reward import PixelReward, small_pictures
from ..rollout import Trajectory, draw_noise, finished_pictures
from ..round import RewardMemory, round_advantages, round_metrics
from ..run import RoundRecord, RunHead, RunMismatchError, RunStore
from ..stepwise import checkpoints, predictions
from ..update import Experience, update_policy
from ..workers import SingleProcess, Workers, gather_rows, shard
from .config import ConfigError, TrainConfig
from .export import export_lora
from .progress import Progress
from .rewards import Scorer

logger = logging.getLogger(__name__)

THUMBNAILS = 8


class NothingToLearnError(RuntimeError):
    """The rewards of a round prefer no picture over another."""


class WorkersDisagreeError(RuntimeError):
    """Processes that should hold the same weights do not."""


def train(
    config: TrainConfig, workers: Workers | None = None, device: torch.device | str | None = None
) -> RunHead:
    """Train until the run has `config.run.rounds` rounds, going on where it stands.

    workers: the processes that share each round; every one calls this with the same config.
    Raises ConfigError, PipelineError, RunError and NothingToLearnError; finished rounds are
    kept, and exported where there is nothing more to learn.
    """
    workers = workers or SingleProcess()
    scorer = Scorer(config.reward, config.sampling)
    if config.sampling.images < workers.count:
        raise ConfigError(
            f"[sampling] A round has {config.sampling.images} pictures for {workers.count} "
            "processes. Raise images_per_prompt, or start fewer."
        )
    if workers.count > 1 and config.update.credit_growth > 0.0:
        raise ConfigError(
            "[update] credit_growth keeps a strength that needs the whole round, so it works in "
            f"one process only; got {config.update.credit_growth} with {workers.count} processes."
        )
    store = RunStore(config.run.folder)
    head = store.head(config.run.name) or RunHead(config.run.name)
    _check_settings(head, config)
    if head.round < config.run.rounds:
        trainer = Trainer(config, workers, store, scorer, device or default_device())
        try:
            head = trainer.run(head)
        except NothingToLearnError:
            _export(store.head(config.run.name), config, workers)
            raise
    else:
        logger.info("Run %s already has its %d rounds.", head.name, head.round)
    _export(head, config, workers)
    return head


def _export(head: RunHead | None, config: TrainConfig, workers: Workers) -> None:
    """Write the LoRA file of a run that has rounds, where one is wanted."""
    if head is not None and config.run.export is not None and workers.rank == 0:
        export_lora(config, head)


def default_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Trainer:
    """A loaded model and everything about a training that stays the same over its rounds."""

    def __init__(
        self,
        config: TrainConfig,
        workers: Workers,
        store: RunStore,
        scorer: Scorer,
        device: torch.device | str,
    ) -> None:
        self._config, self._workers, self._store, self._scorer = config, workers, store, scorer
        sampling = config.sampling
        pipeline = load_pipeline(config.model.path, config.model.config, config.model.precision)
        self._model = PipelineModel(pipeline.to(device))
        for name in ("width", "height"):
            if getattr(sampling, name) % self._model.reduction:
                raise ConfigError(
                    f"[sampling] {name} must be a multiple of {self._model.reduction}, got "
                    f"{getattr(sampling, name)}."
                )
        self._base = self._model.fingerprint()
        self._held = shard(sampling.images, workers)
        positive, negative = encode(
            pipeline, sampling.prompts, sampling.negative_prompt, sampling.width, sampling.height
        )
        self._job = self._sampling_job(positive, negative)

    def run(self, head: RunHead) -> RunHead:
        """The missing rounds, one after the other."""
        model, rounds = self._model, self._config.run.rounds
        if head.manifest is not None and head.round > 0 and head.manifest.base != self._base:
            raise RunMismatchError(
                f"Run {head.name} was started with another model, or with this one in another "
                "precision. Set [model] path and precision back, or choose a new [run] name."
            )
        policy = head.policy or new_policy(model.network, self._config.lora.core())
        check_fits(policy, model.network)
        head = replace(head, policy=policy)
        self._announce(head, policy)
        progress = Progress(head.round, rounds)
        while head.round < rounds:
            head = self._round(head, progress)
        return head

    def _round(self, head: RunHead, progress: Progress) -> RunHead:
        """One round; every process returns the same head, and rank 0 has written it."""
        start, config = time.monotonic(), self._config
        assert head.policy is not None
        layers = PEFTLayers(head.policy, self._model.network.names, self._model.device)
        trajectory = self._sample(head.round, layers, progress)
        maps, pictures = self._score(trajectory)
        memory = RewardMemory.load(head.state, head.memory, painted=False)
        rewards = self._rewards(maps, pictures)
        size = (int(trajectory.x_0.shape[-2]), int(trajectory.x_0.shape[-1]))
        learned = trajectory
        if config.update.objective == "pictures":
            learned = finished_pictures(trajectory, config.run.seed, head.round, self._held)
        made, judged = self._predicted(learned)
        advantages, memory = round_advantages(
            rewards, size, memory, config.update.credit_radius, made, judged
        )
        if all(advantage.is_zero for advantage in advantages):
            raise NothingToLearnError(
                f"Round {head.round + 1}: every picture got the same reward everywhere, so there "
                f"is nothing to prefer. Run {head.name} stays at round {head.round}. To go on, "
                "set another [run] seed (other pictures) or another [reward]."
            )
        session, reference = ReplaySession(self._job, layers), ReplaySession(self._job, None)
        own = joined(advantages).rows(slice(self._held.start, self._held.stop))
        steps = len(trajectory.steps)
        result = update_policy(
            [Experience(learned, own, session, reference)],
            layers,
            head.optimizer,
            config.update,
            head.round + 1,
            lambda done, total: progress.training(done, total, steps),
            self._workers,
        )
        seconds = time.monotonic() - start
        metrics = {
            **round_metrics(rewards, result, steps, head.state, seconds),
            "processes": self._workers.count,
        }
        state, kept = memory.add_to(head.state, head.memory)
        record = RoundRecord(
            policy=result.policy,
            optimizer=result.optimizer,
            memory=kept,
            base=self._base,
            reward_maps=maps,
            thumbnails=pictures[:THUMBNAILS],
            state={**state, "images_total": metrics["images_total"]},
            metrics=metrics,
            settings=self._settings(),
        )
        after = self._write(head, record)
        progress.finished(f"mean reward {metrics['reward_mean']:+.4f} ± {metrics['reward_sd']:.4f}")
        return after

    def _sample(self, round_: int, layers: PEFTLayers, progress: Progress) -> Trajectory:
        sampling, model, config = self._config.sampling, self._model, self._config
        shape = (
            model.channels,
            sampling.height // model.reduction,
            sampling.width // model.reduction,
        )
        noise = draw_noise(shape, sampling.steps + 1, config.run.seed, round_, self._held)
        batches = math.ceil(len(self._held) / config.update.micro_batch)
        training = config.update.train_steps * config.update.steps_per_rollout * batches

        def said(step: int, denoised: Tensor, x: Tensor) -> None:
            progress.sampling(step + 1, sampling.steps, training)

        return sample(self._job, layers, sampling.eta, noise, said)

    def _score(self, trajectory: Trajectory) -> tuple[Tensor, Tensor]:
        """Reward maps [B, H, W] and small pictures [B, h, w, 3] of the whole round."""
        images = self._model.decode(trajectory.x_0)
        prompts = [i // self._config.sampling.images_per_prompt for i in self._held]
        total = self._config.sampling.images
        scores = self._scorer(images, prompts).to(torch.float32)
        maps = gather_rows(scores, self._held, total, self._workers)
        pictures = gather_rows(small_pictures(images), self._held, total, self._workers)
        return self._scorer.finish(maps), pictures

    def _predicted(self, trajectory: Trajectory) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        """Each prompt's predictions, and their reward maps where they are judged, of the round."""
        config, count = self._config, self._config.sampling.images_per_prompt
        if not config.update.stepwise:
            return None, None
        own = predictions(trajectory)
        made = torch.split(self._gathered(own), count, dim=1)
        if not config.reward.judge_predictions:
            return list(made), None
        prompts = [i // count for i in self._held]
        chosen = own[list(checkpoints(len(own) - 1))]
        scores = torch.stack(
            [self._scorer(self._model.decode(d), prompts).to(torch.float32) for d in chosen]
        )
        judged = torch.split(self._gathered(scores), count, dim=1)
        return list(made), [maps.flatten(0, 1) for maps in judged]

    def _gathered(self, maps: Tensor) -> Tensor:
        """All processes' [n, b, ...] as one [n, B, ...]."""
        rows = maps.transpose(0, 1).contiguous()
        total = self._config.sampling.images
        return gather_rows(rows, self._held, total, self._workers).transpose(0, 1)

    def _rewards(self, maps: Tensor, pictures: Tensor) -> list[PixelReward]:
        """One reward per prompt: its pictures are compared with each other."""
        count = self._config.sampling.images_per_prompt
        reviewed = torch.ones(count, dtype=torch.bool)
        return [
            PixelReward(part.clone(), small, self._scorer.label, reviewed)
            for part, small in zip(
                torch.split(maps, count), torch.split(pictures, count), strict=True
            )
        ]

    def _write(self, head: RunHead, record: RoundRecord) -> RunHead:
        """Rank 0 writes; all go on with the same round, and make sure that it is the same."""
        check_agreement(record.policy, self._workers)
        if self._workers.rank == 0:
            digest = None if head.round == 0 or head.policy is None else head.policy.digest
            return self._store.write_round(head.name, head.uuid, head.round, record, digest)
        return replace(
            head,
            round=head.round + 1,
            policy=record.policy,
            optimizer=record.optimizer,
            state=record.state,
            memory=record.memory,
        )

    def _settings(self) -> Mapping[str, Any]:
        sampling, update = self._config.sampling, asdict(self._config.update)
        if not math.isfinite(update["credit_radius"]):
            update["credit_radius"] = "infinite"  # JSON has no such number
        return {
            **update,
            "cfg": sampling.cfg,
            "seed": self._config.run.seed,
            "eta": sampling.eta,
            "sigmas": list(self._job.sigmas),
        }

    def _sampling_job(self, positive: Prompt, negative: Prompt) -> SamplingJob:
        config = self._config
        prompts = [i // config.sampling.images_per_prompt for i in self._held]
        return SamplingJob(
            model=self._model,
            positive=positive.rows(prompts),
            negative=negative.rows(prompts),
            cfg=config.sampling.cfg,
            sigmas=SCHEDULES[config.sampling.schedule](self._model.levels, config.sampling.steps),
            at_once=config.update.micro_batch,
            checkpointing=config.model.gradient_checkpointing,
        )

    def _announce(self, head: RunHead, policy: Policy) -> None:
        """The numbers that follow from the configuration, to be looked at before they cost time."""
        sampling, update = self._config.sampling, self._config.update
        weights = sum(tensor.numel() for tensor in policy.tensors.values())
        logger.info(
            "Run %s: rounds %d to %d, %d pictures each (%d prompts x %d), %d steps of which %d are "
            "trained, LoRA of %d layers with %.2f M weights, %d process(es), on %s.",
            head.name,
            head.round + 1,
            self._config.run.rounds,
            sampling.images,
            len(sampling.prompts),
            sampling.images_per_prompt,
            sampling.steps,
            min(update.train_steps, sampling.steps - 1),
            len(policy.layers),
            weights / 1e6,
            self._workers.count,
            self._model.device,
        )
        if head.thinned:
            logger.info("The optimizer's state was removed to save space: it starts afresh.")


def check_agreement(policy: Policy, workers: Workers) -> None:
    """Raise WorkersDisagreeError unless every process holds this policy, to the bit."""
    own = torch.tensor([int(policy.digest[i : i + 7], 16) for i in range(0, 63, 7)])
    if not torch.equal(workers.sum(own), own * workers.count):
        raise WorkersDisagreeError(
            "The processes ended with different weights, so nothing was written. Start them with "
            "the same configuration, files and kind of device."
        )


def _check_settings(head: RunHead, config: TrainConfig) -> None:
    """Raise RunMismatchError, before the model is loaded, when the run's LoRA is another one."""
    if head.policy is None:
        return
    wanted, made = config.lora.core().to_dict(), head.policy.config.to_dict()
    for name, value in wanted.items():
        if made[name] != value:
            raise RunMismatchError(
                f"Run {head.name} was made with {name} = {made[name]}, not {value}: set it back in "
                "[lora], or choose a new [run] name."
            )
