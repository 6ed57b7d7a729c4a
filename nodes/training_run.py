"""PXPO Training Run: puts the newest LoRA of a named run on the model."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..pxpo_core.backends.comfy.host_model import fingerprint
from ..pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy
from ..pxpo_core.lora import MAX_RANK, TARGETS, LoRAConfig, check_fits, new_policy
from ..pxpo_core.run import RunError, RunHead, validate_run_name
from .runs import run_store
from .types import CATEGORY, advanced

SHOWN = ("round", "reward_mean", "reward_sd", "images")
"""What the history says of a round."""


class TrainingRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_Run",
            display_name="PXPO Training Run",
            category=CATEGORY,
            description="Gives the model with the newest LoRA of a training run. A new name starts "
            "a new run; runs are kept in output/pxpo/<run name>.",
            inputs=[
                io.Model.Input("model", tooltip="The base model; it is never changed."),
                io.String.Input(
                    "run_name",
                    default="my_run",
                    tooltip="Letters, digits, spaces, - and _. The run's folder below output/pxpo.",
                ),
                io.Int.Input(
                    "r",
                    default=LoRAConfig().r,
                    min=1,
                    max=MAX_RANK,
                    tooltip="LoRA rank: how much it can learn. Fixed once a run has started.",
                ),
                advanced(
                    io.Float.Input(
                        "lora_alpha",
                        default=LoRAConfig().lora_alpha,
                        min=0.01,
                        max=1024.0,
                        step=0.01,
                        tooltip="The LoRA's effect is multiplied by lora_alpha / r.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "target_modules",
                        options=list(TARGETS),
                        default=LoRAConfig().target_modules,
                        tooltip="Which layers get a LoRA.",
                    )
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(
        cls, run_name: str, r: int, lora_alpha: float, target_modules: str
    ) -> bool | str:
        """Said when Run is pressed, before anything is computed. Linked widgets arrive as None."""
        try:
            if None not in (r, lora_alpha, target_modules):
                config = LoRAConfig(int(r), float(lora_alpha), str(target_modules))
                if run_name is not None:
                    _check_config(validate_run_name(run_name), config)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls, run_name: str, r: int, lora_alpha: float, target_modules: str, model: object = None
    ) -> str | float:
        """What is on disk decides: a new round, an undo or a deleted folder all count.

        The host passes linked inputs too, as None.
        """
        return float("nan") if run_name is None else run_store().fingerprint(run_name)

    @classmethod
    def execute(
        cls, model: object, run_name: str, r: int, lora_alpha: float, target_modules: str
    ) -> io.NodeOutput:
        config = LoRAConfig(r, lora_alpha, target_modules)
        _check_config(validate_run_name(run_name), config)
        base = fingerprint(model)
        network = model.model.diffusion_model
        head = run_store().head(run_name) or RunHead(run_name)
        if head.manifest is not None and head.round > 0 and head.manifest.base != base:
            raise ValueError(
                f"Run {run_name} was started with another model. Connect that model, or choose a "
                "new run name."
            )
        policy = head.policy or new_policy(network, config)
        check_fits(policy, network)
        policy_model = attach_policy(
            model, policy, RunIdentity(run_name, head.uuid, head.round), base
        )
        return io.NodeOutput(
            policy_model, ui={"text": [_status(head)], "pxpo_run": [_history(head)]}
        )


def _check_config(run_name: str, config: LoRAConfig) -> None:
    """Raise RunError when the run on disk has other LoRA settings."""
    made = run_store().lora_settings(run_name)
    if made is None:
        return
    for field, value in config.to_dict().items():
        if made.get(field) != value:
            raise RunError(
                f"Run {run_name} was made with {field} = {made.get(field)}, not {value}: set it "
                "back, or choose a new run name."
            )


def _status(head: RunHead) -> str:
    if head.round == 0:
        return f"Run {head.name}: nothing learned yet. This press makes round 1."
    text = f"Run {head.name}: round {head.round} finished. This press makes round {head.round + 1}."
    if head.thinned:
        text += " The optimizer's state of this round was removed to save space: it starts afresh."
    return text


def _history(head: RunHead) -> dict[str, Any]:
    """What the node's strip shows: rounds and branches. Pictures are in the run's folder."""
    store = run_store()
    return {
        "run": head.name,
        "uuid": head.uuid,
        "round": head.round,
        "history": [_shown(entry) for entry in head.history],
        "branches": [
            {
                "branch": branch.number,
                "history": [_shown(e) for e in store.branch_history(head.name, branch.number)],
            }
            for branch in store.branches(head.name)
        ],
    }


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in SHOWN if key in entry}
