"""PXPO Training Run: puts the newest LoRA of a named run on the model."""

from typing import Any

from comfy_api.latest import io

from ..pxpo_core.backends.comfy.host_model import fingerprint
from ..pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy
from ..pxpo_core.lora import MAX_RANK, TARGETS, LoRAConfig, check_fits
from ..pxpo_core.run import RunError, RunHead, RunMismatchError, validate_run_name
from .run_overview import publish_overview
from .runs import run_store
from .start_lora import NOTHING, check_lora_name, first_policy, lora_names, stamp
from .types import CATEGORY, advanced

LABELS = {"r": "rank"}
"""What people call a setting, where its name does not say it."""


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
                        tooltip="Which layers get a LoRA. Choose attention when every prompt wants "
                        "something else. For anything else it needs three times the learning rate.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "start_from",
                        options=lora_names(),
                        default=NOTHING,
                        optional=True,
                        tooltip="Round 1 of a new run goes on from this LoRA file. Its rank must "
                        "be r. Once the run has a round, this is not used.",
                    )
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(
        cls,
        run_name: str | None,
        r: int | None,
        lora_alpha: float | None,
        target_modules: str | None,
        start_from: str | None = NOTHING,
    ) -> bool | str:
        """Said when Run is pressed, before anything is computed. Linked widgets arrive as None."""
        try:
            config = None
            if r is not None and lora_alpha is not None and target_modules is not None:
                config = LoRAConfig(int(r), float(lora_alpha), str(target_modules))
            if run_name is not None:
                run_store().check(validate_run_name(run_name))
                started = _check_config(run_name, config)
                if start_from is not None and not started:
                    check_lora_name(start_from)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        run_name: str | None,
        r: int,
        lora_alpha: float,
        target_modules: str,
        start_from: str | None = NOTHING,
        model: object = None,
    ) -> str | float:
        """What is on disk decides: a new round, an undo or a deleted folder all count.

        The host passes linked inputs too, as None.
        """
        if run_name is None or start_from is None:
            return float("nan")
        return run_store().fingerprint(run_name) + stamp(start_from)

    @classmethod
    def execute(
        cls,
        model: Any,
        run_name: str,
        r: int,
        lora_alpha: float,
        target_modules: str,
        start_from: str = NOTHING,
    ) -> io.NodeOutput:
        config = LoRAConfig(r, lora_alpha, target_modules)
        _check_config(validate_run_name(run_name), config)
        base = fingerprint(model)
        head = run_store().head(run_name) or RunHead(run_name)
        start = ""
        if head.policy is None:
            policy, start = first_policy(model, config, start_from)
        else:
            _check_model(head, base, model.model.diffusion_model)
            policy = head.policy
        identity = RunIdentity(run_name, head.uuid, head.round)
        policy_model = attach_policy(model, policy, identity, base)
        return io.NodeOutput(
            policy_model,
            ui={"text": [_status(head, start)], "pxpo_run": [publish_overview(head)]},
        )


def _check_config(run_name: str, config: LoRAConfig | None) -> bool:
    """Whether the run has rounds; raises RunError when they were made with other LoRA settings."""
    made = run_store().lora_settings(run_name)
    if made is None:
        return False
    for field, value in (config.to_dict() if config is not None else {}).items():
        if made.get(field) != value:
            raise RunError(
                f"Run {run_name} was made with {LABELS.get(field, field)} {made.get(field)}, and "
                f"{field} is {value} now: set {field} to {made.get(field)}, or choose a new run "
                "name."
            )
    return True


def _check_model(head: RunHead, base: str, network: Any) -> None:
    """Raise ValueError unless this is the model the run was started with."""
    assert head.policy is not None  # it has rounds
    assert head.manifest is not None
    check_fits(head.policy, network)
    if head.manifest.base != base:
        raise RunMismatchError(
            f"Run {head.name} was started with another model of this architecture, or with this "
            "one in another precision. Connect that model, or choose a new run name."
        )


def _status(head: RunHead, start: str) -> str:
    """start: what to say of a run without rounds."""
    if head.round == 0:
        return f"Run {head.name}: {start}. This press makes round 1."
    text = f"Run {head.name}: round {head.round} finished. This press makes round {head.round + 1}."
    if head.thinned:
        text += " The optimizer's state of this round was removed to save space: it starts afresh."
    return text
