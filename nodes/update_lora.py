"""PXPO Update LoRA: one round of training from a rollout and its reward."""

import time
from typing import Any

import torch
from comfy_api.latest import io

from ..pxpo_core.backends.comfy.memory_plan import TrainingPlan
from ..pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.backends.comfy.train import train_round
from ..pxpo_core.health import should_stop, warning_text, warnings
from ..pxpo_core.metrics import summarize_rewards
from ..pxpo_core.reward import PixelReward
from ..pxpo_core.round import RewardMemory, round_advantages, round_metrics
from ..pxpo_core.run import KEEP_LAST, RoundRecord, RunHead
from ..pxpo_core.update import UpdateConfig
from .page_tab import page_tab
from .progress import Progress, say
from .run_overview import publish_overview
from .runs import run_store
from .types import CATEGORY
from .update_checks import check_current, check_judged, common_run
from .update_credit import AUTOMATIC, learned_from, objective_of, step_credit
from .update_effect import Effect, measure_effect
from .update_presets import CUSTOM, learning_rate_of
from .update_report import (
    agreement_text,
    chart,
    loss_map,
    memory_text,
    round_signs,
    settings,
    share_text,
    stopped_text,
    success_text,
)
from .update_widgets import LARGEST_RADIUS, update_inputs

THUMBNAILS = 8


class UpdateLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_UpdateLoRA",
            display_name="PXPO Update LoRA",
            category=CATEGORY,
            description="Trains the run's LoRA on the sampled pictures: liked pixels become more "
            "likely, disliked ones less. One press is one round, kept in output/pxpo.",
            inputs=update_inputs(),
            outputs=[
                io.Model.Output(display_name="model"),
                io.LoraModel.Output(display_name="lora"),
                io.LossMap.Output(display_name="loss_map"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
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
        anchor_region: list[str] | None = None,
        auto_stop: list[bool] | None = None,
        keep_last: list[int] | None = None,
        stepwise: list[bool] | None = None,
        prediction_reward: list[PixelReward] | None = None,
        preset: list[str] | None = None,
        objective: list[str] | None = None,
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        radius = credit_radius[0] if credit_radius[0] < LARGEST_RADIUS else float("inf")
        config = UpdateConfig(
            learning_rate=learning_rate_of((preset or [CUSTOM])[0], learning_rate[0]),
            train_steps=train_steps[0],
            steps_per_rollout=steps_per_rollout[0],
            step_weighting=step_weighting[0],  # type: ignore[arg-type]
            credit_radius=radius,
            stepwise=(stepwise or [True])[0],
            anchor=anchor[0],
            anchor_region=(anchor_region or ["unmarked"])[0],  # type: ignore[arg-type]
            micro_batch=micro_batch[0],
            objective=objective_of((objective or [AUTOMATIC])[0], rollout, bool(prediction_reward)),
        )
        run, policy = common_run(rollout, reward)
        store = run_store((keep_last or [KEEP_LAST])[0])
        if prediction_reward:
            check_judged(rollout, reward, prediction_reward, config)
        head = store.head(run.name) or RunHead(run.name)
        check_current(head, run, policy)
        reward_maps = torch.cat([r.map for r in reward])
        summary = summarize_rewards(reward_maps)
        painted = reward[0].painted  # all alike, as checked
        if not any(r.marked for r in reward):
            why = "Nothing painted yet." if painted else "No pixel is marked."
            return _nothing_learned(cls.hidden, rollout[0], head, why)
        size = tuple(rollout[0].trajectory.x_0.shape[-2:])
        memory = RewardMemory.load(head.state, head.memory, painted)
        learned = learned_from(rollout, config)
        advantages, memory = round_advantages(
            reward, size, memory, radius, *step_credit(learned, prediction_reward, config)
        )
        if all(advantage.is_zero for advantage in advantages):
            return _nothing_learned(
                cls.hidden,
                rollout[0],
                head,
                "Every picture got the same reward everywhere: there is nothing to prefer.",
            )
        signs = round_signs(rollout, reward, advantages[0].rms)
        found = warnings(signs, head.history, painted)
        stops = not painted and (auto_stop or [True])[0]
        if stops and should_stop(found, signs, head.history):
            return _nothing_learned(cls.hidden, rollout[0], head, warning_text(found, True))
        start = time.monotonic()
        progress = Progress(node_id, "Training", 1)
        at_once = [config.micro_batch]

        def planned(plan: TrainingPlan) -> None:
            at_once[0] = plan.micro_batch
            progress.describe(plan.text)

        result = train_round(
            learned,
            advantages,
            policy,
            head.optimizer,
            config,
            head.round + 1,
            progress,
            planned=planned,
            keep_partial=(keep_partial or [False])[0],
        )
        sampling_steps = len(rollout[0].trajectory.sigmas) - 1
        metrics = {
            **round_metrics(reward, result, sampling_steps, head.state, time.monotonic() - start),
            "warnings": found,
            "agreement": advantages[0].agreement,
            **signs,
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
            cls.hidden,
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
            + warning_text(found, False)
            + agreement_text(advantages[0])
            + share_text(advantages[0])
            + effect.text
            + memory_text(at_once[0], result.micro_batch),
        )


def _nothing_learned(hidden: Any, rollout: Rollout, head: RunHead, why: str) -> io.NodeOutput:
    text = f"{why} No round was made; run {head.name} stays at round {head.round}."
    return _outputs(hidden, rollout, head, {"run": head.name, "round": head.round}, text)


def _outputs(
    hidden: Any,
    rollout: Rollout,
    head: RunHead,
    numbers: dict[str, Any],
    text: str,
) -> io.NodeOutput:
    say(hidden.unique_id, text)
    policy = head.policy or rollout.policy
    assert policy is not None  # checked before any work
    identity = RunIdentity(head.name, head.uuid, head.round)
    model = attach_policy(rollout.job.model, policy, identity, rollout.base)
    return io.NodeOutput(
        model,
        policy.state_dict(),
        loss_map([entry["reward_mean"] for entry in head.history]),
        ui={
            "text": [text],
            "pxpo_update": [{**numbers, "history": chart(head.history), "tab": page_tab(hidden)}],
        },
    )
