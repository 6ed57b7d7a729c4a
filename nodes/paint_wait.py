"""The wait of Paint Pixel Reward: between the host's messages and the answer's file."""

import uuid
from collections.abc import Mapping
from typing import Any

import comfy.model_management
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..pxpo_core.painting import Answer, Marks, PaintFolder, read_marks, wait_for_answer

EVENT = "pxpo.wait"


async def ask(folder: PaintFolder, node: str, shown: Mapping[str, Any], minutes: float) -> Answer:
    """Show pictures in the widget `node` and wait for the marks. Raises the host's interrupt."""
    server = PromptServer.instance
    token = uuid.uuid4().hex
    context = get_executing_context()
    prompt = context.prompt_id if context else None

    def say(**more: object) -> None:
        # To every page: after a crash it may be another one that answers. Widgets with another
        # uuid ignore it.
        server.send_sync(EVENT, {"node": node, "token": token, "prompt_id": prompt, **more})

    def look() -> Marks | None:
        found = folder.read_answer(token)
        return None if found is None else read_marks(found)

    answer = Answer(None, "The run was stopped")
    try:
        answer = await wait_for_answer(
            minutes * 60.0,
            look,
            lambda left: say(shown=shown, seconds_left=left),
            lambda: bool(server.sockets),
            server.client_id is not None,
            comfy.model_management.throw_exception_if_processing_interrupted,
        )
    finally:
        folder.forget_answer(token)
        say(over=True, why=answer.why)
    return answer
