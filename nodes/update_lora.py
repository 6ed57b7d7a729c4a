"""PXPO Update LoRA: one round of training from a rollout and its reward."""

import time
from typing import Any

import torch
from comfy_api.latest import io

from ..pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.backends.comfy.train import train_round
from ..pxpo_core.metrics import summarize_rewards
from ..pxpo_core.reward import PixelReward
from ..pxpo_core.round import RewardMemory, round_advantages
from ..pxpo_core.run import RoundRecord, RunHead
from ..pxpo_core.update import UpdateConfig
from .progress import Progress, say
from .run_overview import publish_overview
from .runs import run_store
from .types import CATEGORY, Reward, advanced
from .types import Rollout as RolloutType
from .update_checks import check_current, common_run
from .update_effect import Effect, measure_effect
from .update_report import chart, loss_map, memory_text, settings, stopped_text, success_text

THUMBNAILS = 8
LARGEST_RADIUS = 1024.0
"""A credit radius this large means the whole picture."""


class UpdateLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = UpdateConfig()
        return io.Schema(
            node_id="PXPO_UpdateLoRA",
            display_name="PXPO Update LoRA",
            category=CATEGORY,
            description="Trains the run's LoRA on the sampled pictures: liked pixels become more "
            "likely, disliked ones less. One press is one round, kept in output/pxpo.",
            inputs=[
                RolloutType.Input("rollout", tooltip="From DDIM LogProb Sampler."),
                Reward.Input("reward", tooltip="For the pictures of this rollout, same order."),
                io.Float.Input(
                    "learning_rate",
                    default=defaults.learning_rate,
                    min=1e-7,
                    max=1.0,
                    step=1e-5,
                    round=1e-7,
                    tooltip="How far each round goes. Lower it when pictures fall apart.",
                ),
                io.Int.Input(
                    "train_steps",
                    default=defaults.train_steps,
                    min=1,
                    max=1000,
                    tooltip="How many of the sampling steps are trained; each costs time.",
                ),
                advanced(
                    io.Float.Input(
                        "credit_radius",
                        default=defaults.credit_radius,
                        min=0.0,
                        max=LARGEST_RADIUS,
                        step=0.5,
                        tooltip="Spread feedback to neighbours, in latent pixels (8 image pixels). "
                        f"0 = exactly where marked, {LARGEST_RADIUS:.0f} = the whole picture.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "anchor",
                        default=defaults.anchor,
                        min=0.0,
                        max=1000.0,
                        step=0.01,
                        tooltip="Pull towards the base model; above 0 costs extra time.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "steps_per_rollout",
                        default=defaults.steps_per_rollout,
                        min=1,
                        max=64,
                        tooltip="Optimizer steps per round.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "step_weighting",
                        options=["uniform", "exact"],
                        default=defaults.step_weighting,
                        tooltip="uniform: all sampling steps count alike. exact: as in DDPO.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "micro_batch",
                        default=defaults.micro_batch,
                        min=1,
                        max=4096,
                        tooltip="Pictures trained at once. Lower it when memory runs out.",
                    )
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Shows what the round changed, with a before / after slider. Costs the "
                    "sampling of one more picture.",
                ),
                advanced(
                    io.Boolean.Input(
                        "keep_partial",
                        default=False,
                        optional=True,
                        tooltip="When you stop a round of several optimizer steps on the way, keep "
                        "the steps that were finished as a round. Otherwise nothing is kept of it.",
                    )
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.LoraModel.Output(display_name="lora"),
                io.LossMap.Output(display_name="loss_map"),
            ],
            hidden=[io.Hidden.unique_id],
            is_input_list=True,
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(
        cls,
        rollout: list[Rollout],
        reward: list[PixelReward],
        learning_rate: list[float],
        train_steps: list[int],
        credit_radius: list[float],
        anchor: list[float],
        steps_per_rollout: list[int],
        step_weighting: list[str],
        micro_batch: list[int],
        vae: list[Any] | None = None,
        keep_partial: list[bool] | None = None,
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        radius = credit_radius[0] if credit_radius[0] < LARGEST_RADIUS else float("inf")
        config = UpdateConfig(
            learning_rate=learning_rate[0],
            train_steps=train_steps[0],
            steps_per_rollout=steps_per_rollout[0],
            step_weighting=step_weighting[0],  # type: ignore[arg-type]
            credit_radius=radius,
            anchor=anchor[0],
            micro_batch=micro_batch[0],
        )
        run, policy = common_run(rollout, reward)
        store = run_store()
        head = store.head(run.name) or RunHead(run.name)
        check_current(head, run, policy)
        reward_maps = torch.cat([r.map for r in reward])
        summary = summarize_rewards(reward_maps)
        painted = reward[0].painted  # all alike, as checked
        if not any(r.marked for r in reward):
            why = "Nothing painted yet." if painted else "No pixel is marked."
            return _nothing_learned(node_id, rollout[0], head, why)
        size = tuple(rollout[0].trajectory.x_0.shape[-2:])
        memory = RewardMemory.load(head.state, head.memory, painted)
        advantages, memory = round_advantages(reward, size, memory, radius)
        if all(advantage.is_zero for advantage in advantages):
            return _nothing_learned(
                node_id,
                rollout[0],
                head,
                "Every picture got the same reward everywhere: there is nothing to prefer.",
            )
        start = time.monotonic()
        progress = Progress(node_id, "Training", 1)
        result = train_round(
            rollout,
            advantages,
            policy,
            head.optimizer,
            config,
            head.round + 1,
            progress,
            keep_partial=keep_partial is not None and keep_partial[0],
        )
        metrics = {
            "reward_mean": summary.mean,
            "reward_sd": summary.sd,
            "reward": " + ".join(dict.fromkeys(r.label for r in reward)),
            "images": summary.images,
            "marked_images": sum(_marked_images(r) for r in reward),
            "size": [reward[0].map.shape[2], reward[0].map.shape[1]],
            "images_total": int(head.state.get("images_total", 0)) + summary.images,
            "marked_area": summary.marked_area,
            "seconds": round(time.monotonic() - start, 3),
            "grad_norm": result.grad_norm,
            "kl": result.kl,
            "learning_rate": result.learning_rate,
            "trained_steps": list(result.trained_steps),
            "sampling_steps": len(rollout[0].trajectory.sigmas) - 1,
            "micro_batch": result.micro_batch,
        }
        if result.stopped is not None:
            metrics |= {"partial": True, "optimizer_steps": result.optimizer_steps}
        effect = Effect({}, stopped=result.stopped)
        if vae and result.stopped is None:
            effect = measure_effect(rollout, reward, result.policy, vae[0], node_id)
            metrics |= effect.metrics
        state, kept = memory.add_to(head.state, head.memory)
        head = store.write_round(
            run.name,
            run.uuid,
            run.round,
            RoundRecord(
                policy=result.policy,
                optimizer=result.optimizer,
                memory=kept,
                base=rollout[0].base,
                reward_maps=reward_maps,
                thumbnails=torch.cat([r.pictures for r in reward])[:THUMBNAILS],
                state={**state, "images_total": metrics["images_total"]},
                metrics=metrics,
                settings=settings(config, rollout[0]),
            ),
            policy.digest if run.round > 0 else None,
        )
        publish_overview(head)
        if effect.stopped is not None:
            say(node_id, stopped_text(head, result.optimizer_steps, config.steps_per_rollout))
            raise effect.stopped
        return _outputs(
            node_id,
            rollout[0],
            head,
            # The paint widget asks for the next pictures when its marks have been learned from.
            {
                "run": run.name,
                "round": head.round,
                "trained": True,
                "painted": painted,
                **metrics,
                "effect": effect.shown,
            },
            success_text(head, summary, [entry["reward_mean"] for entry in head.history])
            + effect.text
            + memory_text(config.micro_batch, result.micro_batch),
        )


def _nothing_learned(
    node_id: str | None, rollout: Rollout, head: RunHead, why: str
) -> io.NodeOutput:
    text = f"{why} No round was made; run {head.name} stays at round {head.round}."
    return _outputs(node_id, rollout, head, {"run": head.name, "round": head.round}, text)


def _outputs(
    node_id: str | None,
    rollout: Rollout,
    head: RunHead,
    numbers: dict[str, Any],
    text: str,
) -> io.NodeOutput:
    say(node_id, text)
    policy = head.policy or rollout.policy
    assert policy is not None  # checked before any work
    identity = RunIdentity(head.name, head.uuid, head.round)
    model = attach_policy(rollout.job.model, policy, identity, rollout.base)
    return io.NodeOutput(
        model,
        policy.state_dict(),
        loss_map([entry["reward_mean"] for entry in head.history]),
        ui={"text": [text], "pxpo_update": [{**numbers, "history": chart(head.history)}]},
    )


def _marked_images(reward: PixelReward) -> int:
    """Reviewed pictures with feedback anywhere."""
    return int((reward.map.flatten(1).any(dim=1) & reward.reviewed).sum())
