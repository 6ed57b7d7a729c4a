"""Go Back in Run: makes an earlier round the newest, once."""

from comfy_api.latest import io

from ..pxpo_core.run import GoneBack, check_token, validate_run_name
from .run_overview import publish_run
from .runs import run_store
from .types import CATEGORY, advanced


class GoBack(io.ComfyNode):
    """A command, sent as a prompt of its own: it keeps its place in the queue among the rounds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_GoBack",
            display_name="Go Back in Run",
            category=CATEGORY,
            description="Makes an earlier round the newest of a run. The later rounds are moved "
            "into the run's branches folder, never deleted. Each token works once.",
            inputs=[
                io.String.Input("run_name", default="my_run"),
                io.Int.Input(
                    "round",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="The round to go on from; 0 starts the run again.",
                ),
                advanced(
                    io.String.Input(
                        "token",
                        default="",
                        tooltip="8 to 64 letters, digits, - and _, new for every command: the same "
                        "prompt sent twice goes back once.",
                    )
                ),
            ],
            outputs=[],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None, token: str | None) -> bool | str:
        """Said when the command is sent. A linked widget arrives as None."""
        try:
            if run_name is not None:
                validate_run_name(run_name)
            if token is not None:
                check_token(token)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, run_name: str, round: int, token: str) -> io.NodeOutput:
        gone = run_store().go_back(run_name, round, token)
        publish_run(run_name)
        numbers = {"run": run_name, "before": gone.before, "round": gone.now, "done": gone.done}
        return io.NodeOutput(
            ui={
                "text": [_text(run_name, gone)],
                "pxpo_go_back": [{**numbers, "branch": gone.branch}],
            }
        )


def _text(run: str, gone: GoneBack) -> str:
    if not gone.done:
        return (
            f"This command was carried out before; nothing was done. Run {run} is at round "
            f"{gone.now}."
        )
    if gone.branch is None:
        return f"Run {run} is at round {gone.now} already."
    return (
        f"Run {run} went back from round {gone.before} to round {gone.now}. The later rounds are "
        f"kept in output/pxpo/{run}/branches/{gone.branch:04d}."
    )
