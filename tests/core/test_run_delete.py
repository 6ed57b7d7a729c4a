"""Deleting a run: only what PXPO wrote is moved, and a kill leaves it whole or deleted."""

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pxpo_core.run import (
    RunBusyError,
    RunDamagedError,
    RunError,
    RunNameError,
    RunStore,
    RunWriteError,
    StaleRolloutError,
)
from pxpo_core.run.lock import writer_lock

TOKEN = "command_0001"


def everything(folder: Path) -> dict[str, bytes]:
    """Content of every file, by place; locks and what shows the run left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".deleting.json", "overview.json")
    }


@pytest.fixture
def hair(store: RunStore, train: Callable[[str, int], None]) -> Path:
    """A run of 3 rounds with a branch of 2."""
    train("hair", 4)
    store.go_back("hair", 2, TOKEN)
    train("hair", 1)
    store.write_overview("hair", {"rounds": 3})
    return store.root / "hair"


def delete(store: RunStore) -> Any:
    uuid = store.uuid("hair")
    assert uuid is not None
    return store.delete("hair", uuid, 3)


def test_a_deleted_run_is_in_the_trash_whole(store, hair):
    before, uuid = everything(hair), store.uuid("hair")
    deleted = delete(store)
    assert (deleted.rounds, deleted.stayed) == (3, ())
    assert deleted.trash.parent == store.root / ".trash"
    assert deleted.trash.name.startswith("hair-")
    assert everything(deleted.trash) == before
    assert not hair.exists()
    assert store.head("hair") is None
    assert store.uuid("hair") is None
    # moved back, it is the run again
    shutil.move(deleted.trash, hair)
    assert (store.head("hair").round, store.head("hair").uuid) == (3, uuid)
    assert [b.rounds for b in store.branches("hair")] == [(3, 4)]


def test_the_name_is_free_and_nothing_old_is_seen(store, hair, train, record):
    uuid, fingerprint = store.uuid("hair"), store.fingerprint("new")
    delete(store)
    assert store.fingerprint("hair") != "none", "as before the first round of the deleted run"
    assert store.fingerprint("new") != fingerprint
    with pytest.raises(StaleRolloutError, match="Make new pictures"):
        store.write_round("hair", uuid, 3, record(4))
    train("hair", 1)
    assert store.head("hair").round == 1
    assert store.uuid("hair") != uuid
    again = store.delete("hair", store.uuid("hair"), 1)
    assert again.trash.is_dir()
    assert len(list((store.root / ".trash").iterdir())) == 2


def test_the_same_command_again_deletes_no_newer_run(store, hair, train):
    """A shared workflow with the command in it, run long after."""
    uuid = store.uuid("hair")
    store.delete("hair", uuid, 3)
    assert store.delete("hair", uuid, 3).trash is None
    train("hair", 3)
    with pytest.raises(RunError, match="not the run this command was made for"):
        store.delete("hair", uuid, 3)
    assert store.head("hair").round == 3


@pytest.mark.parametrize("rounds", [0, 2, 4, -1])
def test_only_what_was_confirmed_is_deleted(store, hair, rounds):
    before = everything(hair)
    with pytest.raises(RunError, match=rf"has 3 rounds by now, not {rounds}"):
        store.delete("hair", store.uuid("hair"), rounds)
    assert everything(hair) == before


@pytest.mark.parametrize("uuid", ["", "x", "0" * 32, "../..", None])
def test_a_wrong_uuid_deletes_nothing(store, hair, uuid):
    with pytest.raises(RunError, match="not the run"):
        store.delete("hair", uuid, 3)
    assert store.head("hair").round == 3


def test_what_pxpo_did_not_write_stays_and_is_named(store, hair, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thumb_00.jpg").write_text("mine")
    (hair / "notes.txt").write_text("mine")
    (hair / "round_0002" / "favourite.png").write_text("mine")
    (hair / "round_0002" / "thumb_07.jpg").symlink_to(outside / "thumb_00.jpg")
    (hair / "round_0004").symlink_to(outside, target_is_directory=True)
    (hair / "branches" / "0001" / "why.md").write_text("mine")
    (hair / "branches" / "0002").symlink_to(outside, target_is_directory=True)
    (hair / "empty").mkdir()
    deleted = store.delete("hair", store.uuid("hair"), 4)
    assert set(deleted.stayed) == {
        "notes.txt",
        "round_0002/favourite.png",
        "round_0002/thumb_07.jpg",
        "round_0004",
        "branches/0001/why.md",
        "branches/0002",
        "empty",
    }
    assert set(everything(hair)) == {
        "notes.txt",
        "round_0002/favourite.png",
        "round_0002/thumb_07.jpg",
        "branches/0001/why.md",
    }
    assert [p.name for p in outside.iterdir()] == ["thumb_00.jpg"]
    assert (outside / "thumb_00.jpg").read_text() == "mine"
    assert not [p for p in deleted.trash.rglob("*") if p.is_symlink()]


def test_a_damaged_round_is_deleted_too(store, hair):
    (hair / "round_0003" / "round.json").write_text("{")
    (hair / "round_0002" / "lora.safetensors").write_bytes(b"")
    deleted = delete(store)
    assert deleted.stayed == ()
    assert (deleted.trash / "round_0003" / "thumb_00.jpg").exists()


def test_links_are_refused(store, hair, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.root / ".trash").symlink_to(outside, target_is_directory=True)
    with pytest.raises(RunNameError, match="trash is not a plain folder"):
        delete(store)
    (store.root / ".trash").unlink()
    (store.root / "skin").symlink_to(hair, target_is_directory=True)
    with pytest.raises(RunNameError, match="is a link"):
        store.delete("skin", store.uuid("hair"), 3)
    assert store.head("hair").round == 3
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["..", "../hair", "/tmp", ".trash", "a/b", "hair/", ""])
def test_names_that_are_paths(store, hair, name):
    with pytest.raises(RunNameError):
        store.delete(name, store.uuid("hair"), 3)
    assert store.head("hair").round == 3


def test_a_run_being_written_is_not_deleted(store, hair):
    with writer_lock(hair, 1.0), pytest.raises(RunBusyError, match="being written"):
        delete(store)
    assert store.head("hair").round == 3


def test_a_run_that_does_not_exist(store):
    assert store.delete("nobody", "0" * 32, 0).trash is None
    assert not store.root.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1, "run": "", "trash": "../../x"}'])
def test_a_deletion_edited_by_hand_is_a_sentence(store, hair, text):
    uuid = store.uuid("hair")
    (hair / ".deleting.json").write_text(text)
    for call in (lambda: store.head("hair"), lambda: store.delete("hair", uuid, 3)):
        with pytest.raises(RunDamagedError, match=r"deleting\.json.*Delete it to keep"):
            call()
    (hair / ".deleting.json").unlink()
    assert store.head("hair").round == 3


def test_a_disk_that_refuses(store, hair, monkeypatch):
    before = everything(hair)

    def refuse(source: Any, target: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        with pytest.raises(RunWriteError, match="Deleting run hair was not finished"):
            delete(store)
    assert store.head("hair") is None, "it counts as deleted"
    assert store.delete("hair", "0" * 32, 3).trash is None, "any later command finishes"
    (trash,) = (store.root / ".trash").iterdir()
    assert everything(trash) == before
    assert not hair.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to kill a writer")
def test_killed_at_any_change_a_run_is_whole_or_deleted(tmp_path, make_rounds):
    """kill -9 at every system call that changes the disk, in turn."""
    whole = RunStore(tmp_path / "whole", keep_last=1)
    make_rounds(whole, "hair", 2)
    whole.go_back("hair", 1, TOKEN)
    (whole.root / "hair" / "notes.txt").write_text("mine")
    before = everything(whole.root / "hair")
    for step in range(1, 500):
        shutil.copytree(whole.root, tmp_path / "copy")
        store = RunStore(tmp_path / "copy", lock_timeout=0.5)
        uuid = store.uuid("hair")
        ended = not killed_in(step, partial(store.delete, "hair", uuid, 1))
        head = store.head("hair")
        trash = store.root / ".trash"
        if head is not None:
            assert head.round == 1
            assert everything(store.root / "hair").items() >= before.items()
        else:  # the next round on this name finishes first, and starts a run of its own
            make_rounds(store, "hair", 1)
            assert (store.head("hair").round, store.uuid("hair") != uuid) == (1, True)
            (moved,) = trash.iterdir()
            assert everything(moved) == {n: d for n, d in before.items() if n != "notes.txt"}
            assert (store.root / "hair" / "notes.txt").read_text() == "mine"
        shutil.rmtree(store.root)
        if ended:
            break
    assert step > 20


def killed_in(step: int, action: Callable[[], object]) -> bool:
    """Run it in a process that is killed right before its step-th change on disk."""
    child = os.fork()
    if child == 0:
        done = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal done
                done += 1
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return call

        for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
