"""Copy Run: a run, or one of its branches, as a run of its own under a new name."""

from comfy_api.latest import io

from ..pxpo_core.run import validate_run_name
from .run_overview import publish_overview
from .runs import run_store
from .types import CATEGORY, advanced


class CopyRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_CopyRun",
            display_name="Copy Run",
            category=CATEGORY,
            description="Copies a training run up to a round, as a new run to train further in "
            "another direction. Both go their own ways from then on.",
            inputs=[
                io.String.Input("run_name", default="my_run", tooltip="The run to copy."),
                io.String.Input("new_name", default="my_run_copy", tooltip="A name not in use."),
                io.Int.Input(
                    "round", default=0, min=0, max=9999, tooltip="The last to copy; 0 = the newest."
                ),
                advanced(
                    io.Int.Input(
                        "branch",
                        default=0,
                        min=0,
                        max=9999,
                        tooltip="0 copies the run, 1 what going back left in branches/0001.",
                    )
                ),
            ],
            outputs=[],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None, new_name: str | None) -> bool | str:
        """Said when Run is pressed. A linked widget arrives as None."""
        try:
            for name in (run_name, new_name):
                if name is not None:
                    validate_run_name(name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, run_name: str, new_name: str, round: int, branch: int) -> io.NodeOutput:
        head = run_store().fork(run_name, new_name, round or None, branch or None)
        publish_overview(head)
        parent = (head.manifest.parent if head.manifest else None) or {}
        text = (
            f"Run {new_name} is a copy of run {run_name}, round {parent.get('round')}; it is at "
            f"round {head.round}."
        )
        numbers = {"run": run_name, "new_name": new_name, "round": head.round}
        return io.NodeOutput(ui={"text": [text], "pxpo_copy": [numbers]})
