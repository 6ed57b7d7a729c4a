"""Delete Run: moves a run into the trash, once a person has confirmed exactly this run."""

from typing import Any

from comfy_api.latest import io
from server import PromptServer

from ..pxpo_core.run import DeletedRun, RunBusyError, validate_run_name
from .host_version import when_known
from .runs import run_store
from .types import CATEGORY

NAMED = 8
"""How many of the files that stay are named."""


class DeleteRun(io.ComfyNode):
    """A command, sent as a prompt of its own after the question on PXPO Training Run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_DeleteRun",
            display_name="Delete Run",
            category=CATEGORY,
            description="Moves a training run into output/pxpo/.trash. Only files that PXPO wrote "
            "are moved, and only of the very run that was confirmed.",
            inputs=[
                io.String.Input("run_name", default=""),
                io.String.Input(
                    "uuid",
                    default="",
                    tooltip="The uuid in the run's manifest.json: no other run of this name is "
                    "deleted, also when the workflow is shared or run again.",
                ),
                io.Int.Input(
                    "rounds",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="How many rounds the run has, branches not counted; otherwise nothing "
                    "is deleted.",
                ),
            ],
            outputs=[],
            is_output_node=True,
            not_idempotent=True,
            **when_known(is_dev_only=True),
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None) -> bool | str:
        """Said when the command is sent. A linked widget arrives as None."""
        try:
            if run_name is not None:
                validate_run_name(run_name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        """Never taken from the cache: the run may have been moved back."""
        return float("nan")

    @classmethod
    def execute(cls, run_name: str, uuid: str, rounds: int) -> io.NodeOutput:
        waiting = _waiting(run_name)
        if waiting:
            raise RunBusyError(
                f"{waiting} more {'press' if waiting == 1 else 'presses'} of Run in the queue "
                f"{'trains' if waiting == 1 else 'train'} run {run_name}. Cancel "
                f"{'it' if waiting == 1 else 'them'}, or wait, and delete the run then. Nothing "
                "was deleted."
            )
        deleted = run_store().delete(run_name, uuid, rounds)
        numbers = {
            "run": run_name,
            "done": deleted.trash is not None,
            "trash": None if deleted.trash is None else deleted.trash.name,
            "stayed": list(deleted.stayed[:NAMED]),
        }
        return io.NodeOutput(ui={"text": [_text(run_name, deleted)], "pxpo_delete": [numbers]})


def _waiting(run_name: str) -> int:
    """How many prompts that still wait in the host's queue train this run."""
    _, queued = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    return sum(_trains(item[2], run_name) for item in queued)


def _trains(prompt: Any, run_name: str) -> bool:
    return isinstance(prompt, dict) and any(
        isinstance(node, dict)
        and node.get("class_type") == "PXPO_Run"
        and node.get("inputs", {}).get("run_name") == run_name
        for node in prompt.values()
    )


def _text(run: str, deleted: DeletedRun) -> str:
    if deleted.trash is None:
        return f"There is no run named {run}; nothing was done."
    text = (
        f"Run {run} was deleted: its {deleted.rounds} "
        f"{'round is' if deleted.rounds == 1 else 'rounds are'} in "
        f"output/pxpo/.trash/{deleted.trash.name}. Delete that folder to free its space, or move "
        f"it back to output/pxpo/{run} to undo this."
    )
    if deleted.stayed:
        more = len(deleted.stayed) - NAMED
        names = ", ".join(deleted.stayed[:NAMED]) + (f" and {more} more" if more > 0 else "")
        text += f" These stay in output/pxpo/{run}, as PXPO did not write them: {names}."
    return text
