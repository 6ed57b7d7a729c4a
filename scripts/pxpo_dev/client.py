"""ComfyUI's HTTP API, with errors in plain words."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Prompt = Mapping[str, Mapping[str, Any]]


class PromptRejected(RuntimeError):
    """The server refused a prompt before it ran anything."""

    def __init__(self, message: str, response: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.response = response


class ExecutionFailed(RuntimeError):
    """A prompt ended with an error or was interrupted."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class Result:
    """What a finished prompt left in the history."""

    prompt_id: str
    status: str  # success | error | interrupted
    outputs: dict[str, dict[str, Any]]
    messages: tuple[tuple[str, dict[str, Any]], ...]
    seconds: float

    def message(self, kind: str) -> dict[str, Any] | None:
        """The data of the first message of one kind, such as "execution_error"."""
        return next((data for name, data in self.messages if name == kind), None)

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose result was taken from the cache."""
        data = self.message("execution_cached") or {}
        return set(data.get("nodes", ()))

    @property
    def error(self) -> str:
        """The message of the node that failed, or an empty string."""
        data = self.message("execution_error") or {}
        return str(data.get("exception_message", "")).strip()

    @property
    def executed(self) -> list[str]:
        """Ids of the nodes that had run when an error or an interrupt ended the prompt."""
        data = self.message("execution_error") or self.message("execution_interrupted") or {}
        return list(data.get("executed", ()))

    def ui(self, node: str, key: str) -> list[Any]:
        """One list that a node sent to the UI."""
        found = self.outputs.get(node, {})
        if key not in found:
            raise KeyError(f"node {node} sent no {key!r}; it sent {sorted(found)}")
        return list(found[key])


class Client:
    """Talks to one server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client_id = uuid.uuid4().hex

    def get(self, path: str, timeout: float = 30.0) -> Any:
        """GET a path and decode the JSON answer."""
        with urllib.request.urlopen(self.address + path, timeout=timeout) as response:
            return json.load(response)

    def post(self, path: str, body: Mapping[str, Any], timeout: float = 30.0) -> Any:
        """POST JSON to a path and decode the answer, if there is one."""
        request = urllib.request.Request(
            self.address + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as response:
            text = response.read()
        return json.loads(text) if text else None

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            self.get("/system_stats", timeout=2.0)
        except (OSError, ValueError):
            return False
        return True

    def object_info(self) -> dict[str, Any]:
        """The schema of every node, by id."""
        return dict(self.get("/object_info", timeout=60.0))

    def queue(self, prompt: Prompt) -> str:
        """Queue a prompt and return its id; PromptRejected says what is wrong with it."""
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            try:
                response = json.loads(text)
            except ValueError:
                raise RuntimeError(f"ComfyUI answered {error.code}: {text[:500]}") from error
            raise PromptRejected(rejection(response, prompt), response) from error
        return str(answer["prompt_id"])

    def wait(
        self, prompt_id: str, timeout: float = 600.0, poll: Callable[[], object] | None = None
    ) -> Result:
        """Wait for a prompt to end, however it ends. `poll` is called several times a second."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None and entry.get("status") is not None:
                return history_result(prompt_id, entry)
            if poll is not None:
                poll()
            time.sleep(0.1)
        raise TimeoutError(f"The prompt did not end within {timeout:.0f} s.")

    def run(
        self, prompt: Prompt, timeout: float = 600.0, poll: Callable[[], object] | None = None
    ) -> Result:
        """Queue a prompt and wait for it; ExecutionFailed if it does not succeed."""
        result = self.wait(self.queue(prompt), timeout, poll)
        if result.status != "success":
            raise ExecutionFailed(failure(result), result)
        return result

    def interrupt(self) -> None:
        """Stop the running prompt."""
        self.post("/interrupt", {})

    def settle(self, timeout: float = 30.0) -> None:
        """Drop what waits in the queue, stop what runs, and wait until the server is idle."""
        deadline = time.monotonic() + timeout
        self.post("/queue", {"clear": True})
        while time.monotonic() < deadline:
            if not self.get("/queue")["queue_running"]:
                return
            self.interrupt()
            time.sleep(0.1)
        raise TimeoutError(f"The server was still busy after {timeout:.0f} s.")

    def free(self) -> None:
        """Drop the server's cached results and loaded models."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    def picture(self, reference: Mapping[str, str]) -> bytes:
        """The bytes of a picture that a node showed or saved."""
        query = urllib.parse.urlencode(
            {key: reference.get(key, "") for key in ("filename", "subfolder", "type")}
        )
        with urllib.request.urlopen(f"{self.address}/view?{query}", timeout=30.0) as response:
            return bytes(response.read())


def history_result(prompt_id: str, entry: Mapping[str, Any]) -> Result:
    """Read one entry of /history."""
    status = entry["status"]
    messages = tuple((str(name), dict(data)) for name, data in status.get("messages", ()))
    kinds = {name for name, _ in messages}
    outcome = "success" if status.get("status_str") == "success" else "error"
    if "execution_interrupted" in kinds:
        outcome = "interrupted"
    times = [data["timestamp"] for _, data in messages if "timestamp" in data]
    seconds = (max(times) - min(times)) / 1000 if times else 0.0
    return Result(prompt_id, outcome, dict(entry.get("outputs", {})), messages, seconds)


def rejection(response: Mapping[str, Any], prompt: Prompt) -> str:
    """Why a prompt was refused, one line per fault."""
    lines = []
    error = response.get("error")
    if isinstance(error, Mapping):
        lines.append(" ".join(str(error.get(key) or "") for key in ("message", "details")).strip())
    elif error:
        lines.append(str(error))
    for node_id, fault in (response.get("node_errors") or {}).items():
        kind = fault.get("class_type") or prompt.get(node_id, {}).get("class_type")
        for item in fault.get("errors", ()):
            lines.append(f"{kind} (node {node_id}): {item.get('message')}: {item.get('details')}")
    return "\n".join(lines) or "ComfyUI refused the prompt without saying why."


def failure(result: Result) -> str:
    """Why a prompt did not succeed."""
    if result.status == "interrupted":
        return "The prompt was interrupted."
    data = result.message("execution_error") or {}
    where = f"{data.get('node_type')} (node {data.get('node_id')})"
    return f"{where}: {data.get('exception_type')}: {result.error}"
