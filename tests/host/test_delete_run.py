"""Delete Run on the real server: the confirmed run only, in queue order; the rest stays."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed, PromptRejected
from pxpo_dev.server import Server


def command(run: str, uuid: str, count: int) -> Graph:
    """The prompt that deletes."""
    inputs = {"run_name": run, "uuid": uuid, "rounds": count}
    return {"delete": {"class_type": "PXPO_DeleteRun", "inputs": inputs}}


def uuid_of(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["uuid"])


def view(server: Server, **query: str) -> tuple[int, bytes]:
    """What the host's /view answers."""
    try:
        url = f"{server.address}/view?{urlencode({'type': 'output', **query})}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_the_page_can_read_the_history_and_nothing_outside(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    result = server.client.run(press())
    subfolder = f"pxpo/{folder.name}"
    status, data = view(server, subfolder=subfolder, filename="overview.json")
    shown = json.loads(data)
    assert status == 200
    assert (shown["uuid"], shown["round"]) == (uuid_of(folder), 1)
    assert shown["history"][0]["reward_mean"] == pytest.approx(
        result.ui("update", "pxpo_update")[0]["reward_mean"]
    )
    status, data = view(server, subfolder=f"{subfolder}/round_0001", filename="thumb_00.jpg")
    assert (status, data[:2]) == (200, b"\xff\xd8")
    (server.base / "secret.json").write_text("secret")
    for query in (
        {"subfolder": f"{subfolder}/../../..", "filename": "secret.json"},
        {"subfolder": subfolder, "filename": "../../../secret.json"},
        {"subfolder": str(server.base), "filename": "secret.json"},
        {"subfolder": f"{subfolder}/%2e%2e/..", "filename": "../secret.json"},
    ):
        status, data = view(server, **query)
        assert status in (400, 403, 404)
        assert b"secret" not in data


def test_a_run_is_deleted_once_and_only_that_run(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    for _ in range(2):
        server.client.run(press())
    uuid = uuid_of(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExecutionFailed, match="has 2 rounds by now, not 1"):
        server.client.run(command(folder.name, uuid, 1))
    result = server.client.run(command(folder.name, uuid, 2))
    (text,) = result.ui("delete", "text")
    assert "its 2 rounds are in output/pxpo/.trash/" in text
    assert "PXPO did not write them: notes.txt." in text
    assert [p.name for p in folder.iterdir() if p.name != ".lock"] == ["notes.txt"]
    (trash,) = (folder.parent / ".trash").iterdir()
    assert rounds(trash) == ["round_0001", "round_0002"]

    again = server.client.run(command(folder.name, uuid, 2))
    assert "nothing was done" in again.ui("delete", "text")[0]
    # The next press starts a new run, which the old command cannot reach.
    assert server.client.run(press()).ui("update", "pxpo_update")[0]["round"] == 1
    with pytest.raises(ExecutionFailed, match="not the run this command was made for"):
        server.client.run(command(folder.name, uuid, 1))
    assert rounds(folder) == ["round_0001"]


def test_a_run_that_waits_in_the_queue_is_not_deleted(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    server.client.run(press())
    prompts = [press(), command(folder.name, uuid_of(folder), 2), press()]
    queued = [server.client.queue(prompt) for prompt in prompts]
    first, deleting, last = [server.client.wait(prompt_id) for prompt_id in queued]
    assert (first.status, deleting.status, last.status) == ("success", "error", "success")
    assert f"1 more press of Run in the queue trains run {folder.name}" in deleting.error
    assert len(rounds(folder)) == 3


def test_pictures_of_a_deleted_run_teach_nothing(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """A batch that was sampled before, and is scored after the deletion."""
    server.client.run(press())
    graph = press()
    graph["delete"] = command(folder.name, uuid_of(folder), 1)["delete"]
    # Whatever order the host chose, nothing is mixed and the next press works.
    result = server.client.wait(server.client.queue(graph))
    assert result.status in ("success", "error")
    assert server.client.run(press()).ui("update", "pxpo_update")[0]["round"] in (1, 2, 3)


@pytest.mark.parametrize("name", ["../outside", ".trash", "a/b", "", "/tmp"])
def test_names_that_are_paths(server: Server, name: str) -> None:
    with pytest.raises(PromptRejected, match="cannot be a run name"):
        server.client.queue(command(name, "0" * 32, 0))


def test_going_back_copying_and_deleting_keep_the_page_up_to_date(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    def shown(name: str) -> Any:
        status, data = view(server, subfolder=f"pxpo/{name}", filename="overview.json")
        return json.loads(data) if status == 200 else status

    for _ in range(3):
        server.client.run(press())
    back = {"run_name": folder.name, "round": 1, "token": "page-0001"}
    server.client.run({"back": {"class_type": "PXPO_GoBack", "inputs": back}})
    overview = shown(folder.name)
    assert [entry["round"] for entry in overview["history"]] == [1]
    assert [entry["round"] for entry in overview["branches"][0]["history"]] == [2, 3]
    copy = {"run_name": folder.name, "new_name": folder.name + " b", "round": 2, "branch": 1}
    server.client.run({"copy": {"class_type": "PXPO_CopyRun", "inputs": copy}})
    assert [entry["round"] for entry in shown(folder.name + " b")["history"]] == [1, 2]
    server.client.run(command(folder.name, uuid_of(folder), 1))
    assert shown(folder.name) == 404
