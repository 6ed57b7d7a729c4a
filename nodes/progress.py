"""Progress people can read: the host's bar, and a line with steps done and time left."""

import time

import comfy.utils
from server import PromptServer

SECONDS_BETWEEN_LINES = 0.5


class Progress:
    """Counts towards a known total on one node."""

    def __init__(self, node_id: str | None, what: str, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)
        self._node_id, self._what = node_id, what
        self._start = time.monotonic()
        self._last_line = 0.0

    def describe(self, what: str) -> None:
        """What is counted, from now on, said at once."""
        self._what = what
        say(self._node_id, f"{what}.")

    def __call__(self, done: int, total: int, preview: object | None = None) -> None:
        """done of total units are finished; preview: what the host's previewer made, if any."""
        self._bar.update_absolute(done, total, preview)
        now = time.monotonic()
        if self._node_id is None or (
            done < total and now - self._last_line < SECONDS_BETWEEN_LINES
        ):
            return
        self._last_line = now
        seconds = (now - self._start) / done * (total - done)
        text = f"{self._what}: {done} of {total}"
        if done < total:
            text += f", about {seconds:.0f} s left"
        say(self._node_id, text)


def say(node_id: str | None, text: str) -> None:
    """Show a sentence on a node; it stays until the node says something else."""
    if node_id is not None:
        PromptServer.instance.send_progress_text(text, node_id)
