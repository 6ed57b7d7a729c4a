"""One cell: train from nothing, look at held-out pictures now and then, keep what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pxpo_core import health
from pxpo_core.credit import Advantage
from pxpo_core.drift import path_drift
from pxpo_core.health import picture_signs
from pxpo_core.lora import LoRALayers, Policy
from pxpo_core.reward import small_pictures
from pxpo_core.rollout import Trajectory, draw_noise, finished_pictures
from pxpo_core.stepwise import checkpoints, predictions
from pxpo_core.update import Experience, NonFiniteUpdateError, update_policy

from . import measures, prompts
from .advantages import Credit
from .cells import Cell, Protocol
from .feedback_noise import spoil
from .judge import Judge, Verdict
from .methods import METHODS, Method
from .reference import Reference
from .statistics import images_to_gain
from .tasks import Task
from .tuning import curve_of
from .validity import valid_faces
from .world import CHUNK, LATENT, ToyWorld, WorldSession

HELD_OUT_SEED = 90_001
FEW_FACES = 0.1
"""Below this share of valid faces a run has collapsed and stops."""

ENOUGH_HAIR = 0.08


@dataclass(frozen=True)
class HeldOut:
    """The base model's pictures of the held-out noise, and what the judge sees in them."""

    images: Tensor
    verdict: Verdict
    scores: Tensor


class Bench:
    """What all cells of one process share."""

    def __init__(
        self,
        world: ToyWorld,
        judge: Judge,
        reference: Reference,
        tasks: Mapping[str, Task],
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._world, self._judge, self._reference = world, judge, reference
        self._tasks, self._say = tasks, say
        self._base_images: dict[tuple[tuple[str, ...], float, int], Tensor] = {}

    @property
    def world(self) -> ToyWorld:
        return self._world

    def tasks(self, *names: str) -> list[Task]:
        return [self._tasks[name] for name in names]

    def run(self, cell: Cell, plan: Protocol) -> dict[str, Any]:
        """The record of one cell."""
        begun, busy = time.monotonic(), time.process_time()
        method, task = METHODS[cell.method], self._tasks[cell.task]
        policy = self._world.new_policy(method.target_modules, cell.seed)
        optimizer: Mapping[str, Tensor] = {}
        credit = Credit(method, painted=task.painted)
        errors = torch.Generator().manual_seed(cell.seed)
        start = self.start_of(cell.seed) if task.same_picture else None
        base = self._base(task, plan.held_out, start)
        evaluations = [self._evaluate(task, base, None, 0, start)]
        rounds: list[dict[str, Any]] = []
        images, stopped = 0, "budget"
        while images < plan.budget and stopped == "budget":
            number = len(rounds) + 1
            asked = prompts.spread(task.training, cell.batch)
            trajectory = self._world.sample(policy, asked, cell.seed, number, start, task.cfg)
            pictures = self._world.decode(trajectory.x_0)
            rewards = spoil(
                task.reward(pictures, asked, errors), method.feedback, method.spoilt, errors
            )
            learned = trajectory
            if method.objective == "pictures":
                learned = finished_pictures(trajectory, cell.seed, number, range(cell.batch))
            made = predictions(learned) if method.stepwise != "off" else None
            judged = None
            if made is not None and task.judged and method.judges:
                judged = self._judged(task, method, asked, made, errors)
            advantage = credit.advantage(rewards, pictures, asked, made, judged)
            drift = 0.0 if not rounds else path_drift(trajectory, self._base_of(task, asked))
            signs = _signs(pictures, advantage, drift, rounds, task.painted)
            if method.auto_stop and health.should_stop(signs["warnings"], signs, rounds):
                stopped = "health"
                if evaluations[-1]["images"] < images:
                    evaluations.append(self._evaluate(task, base, policy, images, start))
                break
            try:
                policy, optimizer, report = self._update(
                    task, cell, number, policy, optimizer, learned, asked, advantage
                )
            except NonFiniteUpdateError:
                stopped = "not finite"
                break
            rounds.append({"reward": float(rewards.mean()), **report, **signs})
            images += cell.batch
            if any(images - cell.batch < at <= images for at in plan.evaluations):
                evaluations.append(self._evaluate(task, base, policy, images, start))
                stopped = _stop(task, method, evaluations)
                self._say(_line(cell, evaluations[-1], time.monotonic() - begun))
        return {
            "task": cell.task,
            "method": cell.method,
            "rate": cell.rate,
            "batch": cell.batch,
            "seed": cell.seed,
            "protocol": plan.to_dict(),
            "precision": self._world.precision,
            "evaluations": evaluations,
            "rounds": rounds,
            "stopped": stopped,
            "seconds": round(time.monotonic() - begun, 1),
            "cpu_seconds": round(time.process_time() - busy, 1),
        }

    def _judged(
        self, task: Task, method: Method, asked: list[str], made: Tensor, errors: torch.Generator
    ) -> Tensor:
        """Rewards of the predictions at their checkpoints, [M, B, H, W], as spoilt as any."""
        return torch.stack(
            [
                spoil(
                    task.reward(self._world.decode(made[t]), asked, errors),
                    method.feedback,
                    method.spoilt,
                    errors,
                )
                for t in checkpoints(len(made) - 1)
            ]
        )

    def _base_of(self, task: Task, asked: list[str]) -> WorldSession:
        """The base model, for single pictures."""
        return WorldSession(self._world, None, asked, task.cfg, compiled=False)

    def _update(
        self,
        task: Task,
        cell: Cell,
        number: int,
        policy: Policy,
        optimizer: Mapping[str, Tensor],
        trajectory: Trajectory,
        asked: list[str],
        advantage: Advantage,
    ) -> tuple[Policy, Mapping[str, Tensor], dict[str, float]]:
        """One round's training: the new policy, its optimizer's state, and what to note."""
        method, layers = METHODS[cell.method], LoRALayers(policy)
        experience = Experience(
            trajectory,
            advantage,
            WorldSession(self._world, layers, asked, task.cfg),
            WorldSession(self._world, None, asked, task.cfg) if method.anchor > 0.0 else None,
        )
        config = method.config(cell.rate, min(CHUNK, cell.batch))
        steps_seed = cell.seed * 100_003 + number
        result = update_policy([experience], layers, optimizer, config, steps_seed)
        report = {
            "grad_norm": result.grad_norm,
            "strength": result.learning_rate / cell.rate,
            "kl": result.kl,
        }
        return result.policy, result.optimizer, report

    def _evaluate(
        self, task: Task, base: HeldOut, policy: Policy | None, images: int, start: Tensor | None
    ) -> dict[str, Any]:
        """Everything that is measured on the held-out pictures after `images` training images."""
        count = len(base.images)
        asked = prompts.interleaved(task.held_out, count)
        pictures, kl = base.images, 0.0
        if policy is not None:
            trajectory = self._held_out(task, policy, count, start)
            pictures = self._world.decode(trajectory.x_0)
            kl = path_drift(trajectory, WorldSession(self._world, None, asked, task.cfg), CHUNK)
        verdict = base.verdict if policy is None else self._judge.look(pictures)
        scores = base.scores if policy is None else task.score(pictures, asked)
        gains = scores - base.scores
        if task.relative:
            gains = gains / base.scores.mean().abs()
        frechet, effective = float("nan"), float("nan")
        if not task.same_picture:
            tilt = None if task.tilt is None else float(task.tilt(pictures).mean())
            frechet, effective = self._reference.distance(task.name, verdict.features, tilt)
        marked = task.marked(base.verdict)
        inside, outside = measures.locality(base.images, pictures, marked)
        return {
            "images": images,
            "n": count,
            "score": float(scores.mean()),
            "gain": float(gains.mean()),
            "kl": kl,
            "gain_se": float(gains.std() / len(gains) ** 0.5),
            "frechet": frechet,
            "reference_effective": effective,
            "valid": float(valid_faces(verdict.labels).float().mean()),
            "detail": measures.detail(pictures),
            "diversity": measures.diversity(verdict.features),
            "saturated": measures.saturated(pictures),
            "change_inside": inside,
            "change_outside": outside,
            "prompts": measures.prompt_following(dict(verdict.attributes), asked, task.fields),
        }

    def _base(self, task: Task, count: int, start: Tensor | None) -> HeldOut:
        """The base model's held-out pictures; tasks with the same prompts share them."""
        key = (task.held_out, task.cfg, count)
        images = self._base_images.get(key) if start is None else None
        if images is None:
            images = self._world.decode(self._held_out(task, None, count, start).x_0)
        if start is None:
            self._base_images[key] = images
        asked = prompts.interleaved(task.held_out, count)
        return HeldOut(images, self._judge.look(images), task.score(images, asked))

    def _held_out(
        self, task: Task, policy: Policy | None, count: int, start: Tensor | None
    ) -> Trajectory:
        """Paths of the fixed held-out (prompt, x_T, z)."""
        asked = prompts.interleaved(task.held_out, count)
        return self._world.sample(policy, asked, HELD_OUT_SEED, 0, start, task.cfg)

    def start_of(self, seed: int) -> Tensor:
        """The x_T of a single picture: the seed's first one whose pictures usually show hair."""
        noise = draw_noise(LATENT, 1, seed, 0, range(CHUNK))[0]
        for start in noise:
            sampled = self._world.sample(None, ["portrait"] * 4, seed, 0, start)
            area = self._judge.area(self._world.decode(sampled.x_0), "hair")
            if float(area.mean()) >= ENOUGH_HAIR:
                return start
        raise RuntimeError(f"None of {CHUNK} pictures of seed {seed} shows hair.")


def _stop(task: Task, method: Method, evaluations: list[dict[str, Any]]) -> str:
    """Why the run is over, "budget" while it is not. With auto-stop, nothing else ends a race."""
    if evaluations[-1]["valid"] < FEW_FACES:
        return "no faces"
    curve, _ = curve_of({"evaluations": evaluations})
    if task.gains and not method.auto_stop and images_to_gain(curve, task.gains[-1]) is not None:
        return "confirmed"
    return "budget"


def _signs(
    pictures: Tensor,
    advantage: Advantage,
    drift: float,
    rounds: list[dict[str, Any]],
    painted: bool,
) -> dict[str, Any]:
    """What the Update node would note and warn of, before it trains on these pictures."""
    signs = {
        **picture_signs(small_pictures(pictures)).to_dict(),
        "signal": advantage.rms,
        "agreement": advantage.agreement,
        "reliability": advantage.reliability,
        "drift": drift,
    }
    return {**signs, "warnings": health.warnings(signs, rounds, painted)}


def _line(cell: Cell, found: Mapping[str, Any], seconds: float) -> str:
    return (
        f"{cell.task} {cell.method} rate {cell.rate:g} batch {cell.batch} seed {cell.seed}: "
        f"{found['images']} images, gain {found['gain']:.3f} +- {found['gain_se']:.3f}, "
        f"frechet {found['frechet']:.3g}, faces {found['valid']:.2f}, "
        f"detail {found['detail']:.4f} ({seconds:.0f} s)"
    )
