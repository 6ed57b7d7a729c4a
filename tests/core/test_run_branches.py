"""Going back, copies and thinning: nothing is lost, whenever the process is killed."""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pxpo_core.run import (
    RunDamagedError,
    RunError,
    RunNameError,
    RunStore,
    RunWriteError,
    StaleRolloutError,
    files,
)

TOKEN = "command_0001"

kills = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to kill a writer")


def lora_of(folder: Path) -> dict[str, bytes]:
    """The LoRA of every round in a run, its branches included, by its place."""
    return {
        str(path.parent.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("round_*/lora.safetensors")
    }


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# going back


def test_going_back_moves_the_later_rounds_into_a_branch(store, train):
    train("hair", 5)
    third = store.policy("hair", 3).digest
    folder = store.root / "hair"
    before = lora_of(folder)
    gone = store.go_back("hair", 3, TOKEN)
    assert (gone.before, gone.now, gone.branch, gone.done) == (5, 3, 1, True)
    head = store.head("hair")
    assert (head.round, head.policy.digest) == (3, third)
    assert [entry["round"] for entry in store.history("hair")] == [1, 2, 3]
    assert [(b.number, b.rounds) for b in store.branches("hair")] == [(1, (4, 5))]
    assert [entry["round"] for entry in store.branch_history("hair", 1)] == [4, 5]
    assert store.thumbnail("hair", 4, branch=1)
    assert sorted(lora_of(folder).values()) == sorted(before.values())
    assert not (folder / ".going-back.json").exists()


def test_the_run_goes_on_from_where_it_went_back_to(store, train, record):
    train("hair", 5)
    uuid = store.head("hair").uuid
    fingerprint = store.fingerprint("hair")
    store.go_back("hair", 3, TOKEN)
    assert store.fingerprint("hair") != fingerprint
    with pytest.raises(StaleRolloutError, match=r"at round 3.*made by round 5"):
        store.write_round("hair", uuid, 5, record(6))
    assert store.write_round("hair", uuid, 3, record(9)).round == 4
    assert store.go_back("hair", 1, "command_0002").branch == 2
    assert [b.rounds for b in store.branches("hair")] == [(4, 5), (2, 3, 4)]


def test_a_command_is_carried_out_once(store, train):
    train("hair", 5)
    store.go_back("hair", 3, TOKEN)
    train("hair", 2)
    again = store.go_back("hair", 3, TOKEN)
    assert (again.done, again.now, store.head("hair").round) == (False, 5, 5)
    # also one that had nothing to do
    assert store.go_back("hair", 5, "command_0002").branch is None
    train("hair", 1)
    assert store.go_back("hair", 5, "command_0002").done is False
    assert store.head("hair").round == 6


def test_going_back_to_the_start(store, train, record):
    train("hair", 2)
    uuid = store.head("hair").uuid
    store.go_back("hair", 0, TOKEN)
    head = store.head("hair")
    assert (head.round, head.uuid, head.policy) == (0, uuid, None)
    assert store.lora_settings("hair") is None
    assert store.write_round("hair", uuid, 0, record(7)).round == 1


@pytest.mark.parametrize(("name", "round_"), [("hair", 4), ("hair", -1), ("skin", 1)])
def test_going_back_to_what_is_not_there(store, train, name, round_):
    train("hair", 3)
    before = everything(store.root / "hair")
    with pytest.raises(RunError, match="no r"):
        store.go_back(name, round_, TOKEN)
    assert everything(store.root / "hair") == before
    assert not (store.root / "skin").exists()


@pytest.mark.parametrize("token", ["", "short", "x" * 65, "../../etc", "tok en 01", None, 12345678])
def test_tokens_are_plain(store, train, token):
    train("hair", 2)
    with pytest.raises(RunError, match="token that was never used"):
        store.go_back("hair", 1, token)
    assert store.head("hair").round == 2


def test_going_back_leaves_damage_behind(store, train):
    """What the message about a damaged round asks for: go back to the round before it."""
    train("hair", 4)
    (store.root / "hair" / "round_0003" / "lora.safetensors").write_bytes(b"")
    with pytest.raises(RunDamagedError, match="go back to round 2"):
        store.head("hair")
    with pytest.raises(RunDamagedError):
        store.go_back("hair", 3, TOKEN)
    assert store.go_back("hair", 2, TOKEN).branch == 1
    assert store.head("hair").round == 2
    assert store.branches("hair")[0].rounds == (3, 4)


def test_links_in_the_place_of_branches_are_refused(store, train, tmp_path):
    train("hair", 2)
    (tmp_path / "outside").mkdir()
    (store.root / "hair" / "branches").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(RunNameError, match="branches is not a plain folder"):
        store.go_back("hair", 1, TOKEN)
    assert not list((tmp_path / "outside").iterdir())
    assert store.head("hair").round == 2


def test_a_journal_edited_by_hand_is_a_sentence(store, train, record):
    train("hair", 2)
    uuid = store.head("hair").uuid
    path = store.root / "hair" / ".going-back.json"
    for text in ("{", "[]", '{"schema": 1, "to": -1}', '{"to": 1, "branch": "../x"}'):
        path.write_text(text)
        with pytest.raises(RunDamagedError, match=r"going-back\.json.*Delete it"):
            store.head("hair")
        with pytest.raises(RunDamagedError):
            store.write_round("hair", uuid, 2, record(3))
    path.unlink()
    assert store.head("hair").round == 2


class Killed(BaseException):
    """Stands for a kill: no handler of ours may catch it."""


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> list[int]:
    """Let every change on disk happen, and stop right after the n-th one."""
    done = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            done[0] += 1
            if done[0] == calls:
                raise Killed
            return result

        return call

    for owner, name in ((os, "rename"), (os, "replace"), (os, "fsync"), (Path, "mkdir"),
                        (Path, "unlink")):  # fmt: skip
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return done


def test_stopped_after_any_change_a_run_is_as_it_was_or_gone_back(
    tmp_path, monkeypatch, make_rounds
):
    seen = set()
    make_rounds(RunStore(tmp_path / "whole"), "hair", 5)
    for step in range(1, 100):
        shutil.copytree(tmp_path / "whole", tmp_path / str(step))
        store = RunStore(tmp_path / str(step), lock_timeout=0.2)
        before = lora_of(store.root / "hair")
        with monkeypatch.context() as patch:
            done = stop_after(patch, step)
            with contextlib.suppress(Killed):
                store.go_back("hair", 2, TOKEN)
        head = store.head("hair")
        seen.add(head.round)
        assert head.round in (5, 2), "never in between"
        assert len(store.history("hair")) == head.round
        assert sorted(lora_of(store.root / "hair").values()) == sorted(before.values())
        again = store.go_back("hair", 2, TOKEN)
        assert (again.now, again.done) == (2, head.round == 5)
        assert [b.rounds for b in store.branches("hair")] == [(3, 4, 5)]
        make_rounds(store, "hair", 1)
        assert store.head("hair").round == 3
        assert sorted(lora_of(store.root / "hair").values())[: len(before)]
        if done[0] < step:
            break
    assert step > 10
    assert seen == {2, 5}


def killed(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child process that is killed (-9) at its n-th change on disk."""
    child = os.fork()
    if child == 0:
        try:
            left = [step]

            def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
                def call(*arguments: Any, **options: Any) -> Any:
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*arguments, **options)

                return call

            for name in ("rename", "replace", "fsync", "mkdir", "unlink", "write", "open"):
                setattr(os, name, deadly(getattr(os, name)))
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@kills
@pytest.mark.parametrize("kind", ["write", "go back", "copy", "thin"])
def test_killed_at_any_change_nothing_is_lost(tmp_path, kind, make_rounds, record):
    """kill -9 at every system call that changes the disk, in turn."""
    make_rounds(RunStore(tmp_path / "whole", keep_last=0), "hair", 3)
    for step in range(1, 500):
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        store = RunStore(tmp_path / "copy", lock_timeout=0.5, keep_last=0)
        before = lora_of(store.root / "hair")
        uuid = store.head("hair").uuid
        thinning = RunStore(store.root, keep_last=1)
        actions = {
            "write": partial(store.write_round, "hair", uuid, 3, record(4)),
            "go back": partial(store.go_back, "hair", 1, TOKEN),
            "copy": partial(store.fork, "hair", "skin"),
            "thin": partial(thinning.write_round, "hair", uuid, 3, record(4)),
        }
        ended = not killed(step, actions[kind])
        head = store.head("hair")
        assert (
            head.round in {"write": (3, 4), "go back": (3, 1), "copy": (3,), "thin": (3, 4)}[kind]
        )
        assert set(before.values()) <= set(lora_of(store.root / "hair").values())
        if kind == "copy":
            assert store.head("skin") is None or store.head("skin").round == 3
            assert store.fork("hair", "skin").round == 3
            assert not list(store.root.glob(".tmp-*"))
        # and the run goes on
        make_rounds(thinning if kind == "thin" else store, "hair", 1)
        assert store.head("hair").round == head.round + 1
        assert not list((store.root / "hair").rglob(".tmp-*"))
        if kind == "thin":
            assert not (store.root / "hair" / "round_0001" / "optimizer.safetensors").exists()
        shutil.rmtree(store.root)
        if ended:
            break
    assert step > 10


def test_readers_are_not_disturbed_while_rounds_move(store, train):
    train("hair", 6)
    problems: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        reader = RunStore(store.root)
        while not stop.is_set():
            try:
                assert reader.head("hair").round in range(1, 8)
                assert len(reader.history("hair")) in range(1, 8)
                reader.fingerprint("hair")
            except BaseException as error:
                problems.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(8):
        store.go_back("hair", 1, f"command_{number:04d}")
        train("hair", 3)
    stop.set()
    reader.join()
    assert problems == []


# copies


def test_a_copy_is_a_run_of_its_own(store, train, record):
    train("hair", 4)
    source = store.head("hair")
    made = store.fork("hair", "hair two", 2)
    assert (made.round, made.name) == (2, "hair two")
    assert made.uuid != source.uuid
    assert made.manifest.parent == {"name": "hair", "uuid": source.uuid, "round": 2}
    assert made.policy.digest == store.policy("hair", 2).digest
    assert made.optimizer.keys() == source.optimizer.keys()
    train("hair two", 2)
    assert (store.head("hair two").round, store.head("hair").round) == (4, 4)
    with pytest.raises(StaleRolloutError, match="deleted or replaced"):
        store.write_round("hair two", source.uuid, 4, record())


def test_a_copy_asked_for_again_is_left_alone(store, train):
    train("hair", 3)
    uuid = store.fork("hair", "two", 2).uuid
    train("two", 1)
    again = store.fork("hair", "two", 2)
    assert (again.uuid, again.round) == (uuid, 3)
    for changed in (1, None):
        with pytest.raises(RunError, match="already is a run named two"):
            store.fork("hair", "two", changed)


def test_a_copy_of_a_round_that_was_left_is_not_one_of_its_successor(store, train):
    train("hair", 2)
    left = store.fork("hair", "hair r2", 2).policy.digest
    store.go_back("hair", 1, "command_0001")
    train("hair", 1)
    with pytest.raises(RunError, match="already is a run named hair r2"):
        store.fork("hair", "hair r2", 2)
    assert store.head("hair r2").policy.digest == left
    # The copy may have gone back, and is still the copy it was.
    train("hair r2", 1)
    store.go_back("hair r2", 1, "command_0002")
    assert store.fork("hair", "hair r2", 2, branch=1).round == 1


def test_a_branch_can_be_copied_with_the_rounds_before_it(store, train):
    train("hair", 4)
    digests = [store.policy("hair", n).digest for n in (1, 2, 3, 4)]
    store.go_back("hair", 2, "command_0001")
    train("hair", 2)
    store.go_back("hair", 1, "command_0002")
    made = store.fork("hair", "kept", branch=1)  # its round 2 is in branch 2 by now
    assert made.round == 4
    assert [store.policy("kept", n).digest for n in (1, 2, 3, 4)] == digests
    assert store.fork("hair", "kept three", 3, branch=1).round == 3
    with pytest.raises(RunError, match="no round"):
        store.fork("hair", "nothing", 4, branch=3)


def test_copies_that_cannot_be_made(store, train):
    train("hair", 2)
    for arguments in (("skin", "new"), ("hair", "new", 3), ("hair", "new", 0), ("hair", "hair")):
        with pytest.raises(RunError, match=r"no r|already"):
            store.fork(*arguments)
    with pytest.raises(RunNameError):
        store.fork("hair", "../new")
    (store.root / "hair" / "round_0001" / "lora.safetensors").write_bytes(b"x" * 10)
    with pytest.raises(RunDamagedError):
        store.fork("hair", "new")
    assert {p.name for p in store.root.iterdir()} - {".lock"} == {"hair"}


# thinning


def test_old_rounds_lose_their_optimizer_and_most_thumbnails(store, train, make_rounds):
    lean = RunStore(store.root, keep_last=2)
    make_rounds(lean, "hair", 5)
    names = [
        {p.name for p in (store.root / "hair" / f"round_000{n}").iterdir()} for n in range(1, 6)
    ]
    for thinned in names[:3]:
        assert thinned == {
            "lora.safetensors", "state.json", "metrics.json", "settings.json", "round.json",
            "reward_00.png", "reward_01.png", "thumb_00.jpg",
        }  # fmt: skip
    for whole in names[3:]:
        assert {"optimizer.safetensors", "thumb_01.jpg"} <= whole
    head = lean.head("hair")
    assert (head.round, head.thinned, len(head.optimizer)) == (5, False, 2)
    assert len(lean.history("hair")) == 5


def test_training_goes_on_from_a_thinned_round(store, make_rounds, record):
    lean = RunStore(store.root, keep_last=2)
    memory = {"reward.running": torch.ones(2, 3)}
    for number in range(4):
        head = lean.head("hair")
        uuid = head.uuid if head else None
        lean.write_round("hair", uuid, number, record(number + 1, memory=memory))
    lean.go_back("hair", 1, TOKEN)
    head = lean.head("hair")
    assert (head.round, head.thinned, head.optimizer) == (1, True, {})
    assert torch.equal(head.memory["reward.running"], memory["reward.running"])
    make_rounds(lean, "hair", 1)
    assert (lean.head("hair").round, lean.head("hair").thinned) == (2, False)


def test_nothing_is_thinned_unless_it_is_asked_for(store, make_rounds):
    whole = RunStore(store.root, keep_last=0)
    make_rounds(whole, "hair", 4)
    assert (store.root / "hair" / "round_0001" / "optimizer.safetensors").exists()


def test_an_optimizer_deleted_by_hand_is_damage(store, train):
    """Only a round that says so is thinned."""
    train("hair", 2)
    (store.root / "hair" / "round_0001" / "optimizer.safetensors").unlink()
    with pytest.raises(RunDamagedError, match=r"round_0001 is damaged: optimizer\.safetensors"):
        store.head("hair")


def test_a_round_that_cannot_be_thinned_does_not_stop_training(store, monkeypatch, make_rounds):
    lean = RunStore(store.root, keep_last=1)
    make_rounds(lean, "hair", 2)
    replace = files.replace_durably

    def failing(path: Path, temporary: Path, data: bytes) -> None:
        if path.name == "round.json":
            raise PermissionError(13, "Permission denied")
        replace(path, temporary, data)

    monkeypatch.setattr(files, "replace_durably", failing)
    make_rounds(lean, "hair", 1)
    assert lean.head("hair").round == 3
    monkeypatch.undo()
    make_rounds(lean, "hair", 1)
    assert not (store.root / "hair" / "round_0002" / "optimizer.safetensors").exists()


# full disks and files that cannot be written


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size=200k tmpfs '{folder}' 2>/dev/null") != 0:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    os.system(f"umount '{folder}'")


def test_a_disk_that_fills_up_while_writing(small_disk, monkeypatch, make_rounds):
    monkeypatch.setattr(files, "FREE_SPACE_RESERVE", -(1 << 40))  # nobody looked before
    store = RunStore(small_disk / "pxpo")
    with pytest.raises(RunWriteError, match="No space left"):
        make_rounds(store, "hair", 100)
    made = store.head("hair").round
    assert made > 0
    for _ in range(3):
        with pytest.raises(RunWriteError, match=rf"still stands at round {made}"):
            make_rounds(store, "hair", 1)
        assert store.head("hair").round == made
    assert not list((store.root / "hair").glob(".tmp-*")), "the failed write takes no room"
    # Going back writes one small file; when not even that fits, it says so.
    (small_disk / "filler").write_bytes(b"x" * 4096 * ((os.statvfs(small_disk).f_bavail) or 0))
    with pytest.raises(RunWriteError, match=r"No space left.*No round is lost"):
        store.go_back("hair", 1, TOKEN)
    assert store.head("hair").round == made
    (store.root / "hair" / "round_0001" / "reward_00.png").unlink()
    (store.root / "hair" / "round_0001" / "reward_01.png").unlink()
    store.go_back("hair", 1, TOKEN)
    assert store.head("hair").round == 1


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_files_and_folders_that_cannot_be_written(tmp_path, make_rounds):
    """Read-only files do not matter: nothing is changed in place. A read-only folder is said."""
    import tempfile

    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    try:
        store = RunStore(root / "pxpo", lock_timeout=0.5)
        make_rounds(store, "hair", 2)
        everyone = 65534
        for path in [root, *root.rglob("*")]:
            if os.geteuid() == 0:
                os.chown(path, everyone, everyone)
            if path.is_file() and path.name != ".lock":
                path.chmod(0o444)
        privileged = os.geteuid() == 0
        if privileged:
            os.seteuid(everyone)
        try:
            make_rounds(store, "hair", 1)
            (root / "pxpo" / "hair").chmod(0o555)
            with pytest.raises(RunWriteError, match=r"Permission denied.*still stands at round 3"):
                make_rounds(store, "hair", 1)
            with pytest.raises(RunWriteError, match="No round is lost"):
                store.go_back("hair", 1, TOKEN)
            assert store.head("hair").round == 3
            (root / "pxpo" / "hair").chmod(0o755)
            (root / "pxpo" / "hair" / ".lock").chmod(0o444)
            with pytest.raises(RunWriteError, match=r"Permission denied"):
                make_rounds(store, "hair", 1)
            (root / "pxpo" / "hair" / ".lock").chmod(0o644)
            make_rounds(store, "hair", 1)
            assert store.head("hair").round == 4
        finally:
            if privileged:
                os.seteuid(0)
    finally:
        shutil.rmtree(root)
