"""Runs on disk: atomic rounds, the folder as the truth, and every kind of damage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pxpo_core.lora import LoRAConfig, Policy
from pxpo_core.run import (
    RunBusyError,
    RunDamagedError,
    RunError,
    RunMismatchError,
    RunStore,
    RunWriteError,
    StaleRolloutError,
    files,
    writing,
)
from pxpo_core.run.lock import writer_lock
from pxpo_core.run.reading import NEEDED

REPOSITORY = Path(__file__).resolve().parents[2]


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_run_that_is_not_there(store):
    assert store.head("hair") is None
    assert store.history("hair") == []
    assert store.fingerprint("hair") == "none"
    assert not store.root.exists()


def test_first_round_makes_the_run(store, record):
    made = store.write_round("hair", None, 0, record(1))
    folder = store.root / "hair"
    assert names(folder) - {".lock"} == {"manifest.json", "round_0001"}
    assert names(folder / "round_0001") == {
        "lora.safetensors", "optimizer.safetensors", "state.json", "metrics.json", "settings.json",
        "round.json", "reward_00.png", "reward_01.png", "thumb_00.jpg", "thumb_01.jpg",
    }  # fmt: skip
    assert (made.round, made.name, made.manifest.base) == (1, "hair", "sha256:base")


def test_what_is_written_is_read_back(store, record):
    store.write_round("hair", None, 0, record(1))
    head = RunStore(store.root).head("hair")
    expected = record(1)
    assert head.policy.digest == expected.policy.digest
    assert head.state == expected.state
    assert head.optimizer.keys() == expected.optimizer.keys()
    assert all(torch.equal(head.optimizer[n], t) for n, t in expected.optimizer.items())


def test_tensors_are_ordinary_even_if_read_in_inference_mode(store, record):
    with torch.inference_mode():
        store.write_round("hair", None, 0, record(1))
        head = store.head("hair")
    tensors = [*head.policy.tensors.values(), *head.optimizer.values()]
    assert not any(t.is_inference() for t in tensors)
    assert all(t.is_contiguous() for t in tensors)


def test_rounds_follow_each_other(store, train):
    train("hair", 3)
    assert store.head("hair").round == 3
    assert [(m["round"], m["reward_mean"]) for m in store.history("hair")] == [
        (1, pytest.approx(-0.1)), (2, pytest.approx(-0.2)), (3, pytest.approx(-0.3)),
    ]  # fmt: skip


def test_lora_settings_are_known_without_reading_weights(store, train):
    assert store.lora_settings("hair") is None
    train("hair", 1)
    (store.root / "hair" / "round_0001" / "lora.safetensors").unlink()
    assert store.lora_settings("hair")["r"] == 2
    shutil.rmtree(store.root / "hair" / "round_0001")
    assert store.lora_settings("hair") is None


def test_runs_do_not_see_each_other(store, train):
    train("hair", 2)
    train("skin", 1)
    assert store.head("hair").round == 2
    assert store.head("skin").round == 1
    assert store.head("hair").uuid != store.head("skin").uuid


def test_deleting_the_last_round_goes_back(store, train):
    train("hair", 3)
    second = store.history("hair")[1]
    shutil.rmtree(store.root / "hair" / "round_0003")
    head = store.head("hair")
    assert (head.round, head.state["seed"]) == (2, 2)
    assert store.history("hair")[-1] == second


def test_deleting_all_rounds_starts_again_and_may_change_the_lora(store, train, record, policy):
    train("hair", 2)
    uuid = store.head("hair").uuid
    for number in (1, 2):
        shutil.rmtree(store.root / "hair" / f"round_000{number}")
    head = store.head("hair")
    assert (head.uuid, head.round, head.policy, head.round_id) == (uuid, 0, None, None)
    other = policy(0, LoRAConfig(r=3, lora_alpha=1.0))
    made = store.write_round("hair", uuid, 0, record(policy=other))
    assert (made.uuid, made.round, made.policy.config.r) == (uuid, 1, 3)


def test_deleting_the_run_starts_a_new_one(store, train, record):
    train("hair", 1)
    uuid = store.head("hair").uuid
    shutil.rmtree(store.root / "hair")
    assert store.head("hair") is None
    with pytest.raises(
        StaleRolloutError, match="at round 0, but these pictures were made by round 1"
    ):
        store.write_round("hair", uuid, 1, record(2))
    assert store.write_round("hair", None, 0, record(1)).uuid != uuid


# fingerprint


def test_the_fingerprint_is_stable_while_nothing_changes(store, train):
    train("hair", 2)
    first = store.fingerprint("hair")
    store.head("hair")
    store.history("hair")
    time.sleep(0.02)
    assert store.fingerprint("hair") == first
    assert RunStore(store.root).fingerprint("hair") == first


def test_every_change_on_disk_changes_the_fingerprint(store, train, tmp_path):
    seen = [store.fingerprint("hair")]

    def changed() -> None:
        seen.append(store.fingerprint("hair"))
        time.sleep(0.02)

    train("hair", 1)
    changed()
    train("hair", 1)
    changed()
    shutil.move(store.root / "hair" / "round_0002", tmp_path / "kept")  # undo ...
    changed()
    train("hair", 1)  # ... train it again ...
    changed()
    shutil.rmtree(store.root / "hair" / "round_0002")
    shutil.move(tmp_path / "kept", store.root / "hair" / "round_0002")  # ... and put it back
    changed()
    shutil.rmtree(store.root / "hair" / "round_0002")
    changed()
    assert len(set(seen)) == len(seen)
    shutil.rmtree(store.root / "hair")
    assert store.fingerprint("hair") == "none"


def test_a_damaged_run_still_has_a_fingerprint(store, train):
    train("hair", 1)
    (store.root / "hair" / "round_0001" / "round.json").write_text("{")
    assert store.fingerprint("hair").startswith("damaged")
    (store.root / "hair" / "manifest.json").unlink()
    assert store.fingerprint("hair").startswith("damaged")


# refusals


def test_a_rollout_of_an_earlier_round_is_refused(store, train, record):
    train("hair", 5)
    head = store.head("hair")
    with pytest.raises(
        StaleRolloutError,
        match=r"Run hair is at round 5, but these pictures were made by round 3\. .*marks are kept",
    ):
        store.write_round("hair", head.uuid, 3, record())
    assert store.head("hair").round_id == head.round_id


def test_a_rollout_of_a_replaced_run_is_refused(store, train, record):
    train("hair", 1)
    uuid = store.head("hair").uuid
    shutil.rmtree(store.root / "hair")
    train("hair", 1)
    for wrong in (uuid, None):
        with pytest.raises(StaleRolloutError, match="deleted or replaced"):
            store.write_round("hair", wrong, 1, record())


def test_a_rollout_of_a_round_that_was_made_again_is_refused(store, train, record, policy):
    train("hair", 2)
    old = store.head("hair")
    shutil.rmtree(store.root / "hair" / "round_0002")
    store.write_round("hair", old.uuid, 1, record(7))
    with pytest.raises(StaleRolloutError, match="made again"):
        store.write_round("hair", old.uuid, 2, record(), old.policy.digest)
    assert store.write_round("hair", old.uuid, 2, record(), policy(7).digest).round == 3


def test_another_model_or_lora_is_refused(store, train, record, policy):
    train("hair", 1)
    head = store.head("hair")
    with pytest.raises(RunMismatchError, match="another model"):
        store.write_round("hair", head.uuid, 1, record(base="sha256:other"))
    other = policy(0, LoRAConfig(r=3, lora_alpha=2.0))
    with pytest.raises(RunMismatchError, match=r"r 2.*r 3"):
        store.write_round("hair", head.uuid, 1, record(policy=other))
    assert store.head("hair").round == 1


def broken(tensors: dict[str, torch.Tensor], change: torch.Tensor) -> dict[str, torch.Tensor]:
    name = min(tensors)
    return {**tensors, name: change}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (torch.full((2, 5), float("nan")), "NaN"),
        (torch.full((2, 5), float("inf")), "NaN or infinity"),
        (torch.zeros((2, 5), dtype=torch.float16), "float32"),
        (torch.zeros((3, 5)), "wrong shape"),
        (torch.zeros(5), "wrong shape"),
    ],
)
def test_weights_that_must_not_be_written_are_refused(store, record, policy, change, words):
    bad = replace(policy(1), tensors=broken(dict(policy(1).tensors), change))
    with pytest.raises(RunWriteError, match=words):
        store.write_round("hair", None, 0, record(policy=bad))
    assert store.head("hair") is None or store.head("hair").round == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"a.step": torch.tensor(float("nan"))}},
        {"metrics": {"reward_mean": float("nan")}},
        {"state": {"x": object()}},
        {"settings": {"text": "x" * (5 << 20)}},
        {"reward_maps": torch.full((1, 4, 4), float("nan"))},
        {"reward_maps": torch.zeros((4, 4))},
        {"thumbnails": torch.zeros((1, 4, 4, 3))},
        {"policy": Policy(LoRAConfig(), {})},
    ],
)
def test_records_that_must_not_be_written_leave_the_run_as_it_was(store, train, record, changes):
    train("hair", 1)
    head = store.head("hair")
    before = names(store.root / "hair")
    with pytest.raises(ValueError, match=r"."):
        store.write_round("hair", head.uuid, 1, record(**changes))
    assert names(store.root / "hair") == before
    assert store.head("hair").round_id == head.round_id


# pictures


def test_reward_pictures_are_signed_around_128(store, record):
    values = torch.zeros((1, 4, 4))
    values[0, 0, 0], values[0, 3, 3] = 2.0, -1.0
    store.write_round("hair", None, 0, record(reward_maps=values))
    picture = Image.open(store.root / "hair" / "round_0001" / "reward_00.png")
    assert picture.mode == "L"
    assert picture.getpixel((0, 0)) == 255
    assert picture.getpixel((1, 1)) == 128
    assert picture.getpixel((3, 3)) in (64, 65)


def test_large_pictures_are_saved_small(store, record):
    store.write_round("hair", None, 0, record(reward_maps=torch.rand((1, 512, 256)) - 0.5))
    assert Image.open(store.root / "hair" / "round_0001" / "reward_00.png").size == (64, 128)


def test_pictures_may_be_deleted_to_save_space(store, train):
    train("hair", 2)
    for path in (store.root / "hair").glob("round_*/*.[pj][np]g"):
        path.unlink()
    assert store.head("hair").round == 2


# damage by hand


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def damage_delete(path: Path) -> None:
    path.unlink()


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_link(path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


DAMAGES = [damage_truncate, damage_flip, damage_delete, damage_empty, damage_link]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [*NEEDED, "round.json"])
def test_a_damaged_head_is_a_clear_error_and_never_repaired(store, train, record, file, damage):
    train("hair", 3)
    uuid = store.head("hair").uuid
    folder = store.root / "hair" / "round_0003"
    damage(folder / file)
    if file == "round.json" and damage is damage_flip:
        assert b"\n" in (folder / file).read_bytes()  # one flipped bit may leave valid JSON
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    # metrics and settings are not read with the head; their size is
    lazy = file in ("metrics.json", "settings.json") and damage is damage_flip
    if not lazy:
        with pytest.raises(RunDamagedError, match=r"round_0003.*") as caught:
            store.head("hair")
        assert "go back to round 2" in str(caught.value)
        assert "move it" in str(caught.value)
    if file == "round.json" or damage is not damage_flip:
        with pytest.raises(RunError):
            store.write_round("hair", uuid, 3, record())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    shutil.move(folder, store.root / "moved away")
    assert store.head("hair").round == 2


def test_a_damaged_round_in_the_middle_is_not_ignored(store, train):
    train("hair", 3)
    damage_truncate(store.root / "hair" / "round_0002" / "lora.safetensors")
    with pytest.raises(RunDamagedError, match=r"round_0002 is damaged.*go back to round 1"):
        store.head("hair")


def test_a_gap_is_a_clear_error(store, train):
    train("hair", 4)
    shutil.rmtree(store.root / "hair" / "round_0003")
    with pytest.raises(RunDamagedError, match=r"round_0003 is missing, but round_0004.*round 2"):
        store.head("hair")


def test_a_round_of_another_run_or_place_is_not_taken(store, train):
    train("hair", 2)
    train("skin", 2)
    shutil.rmtree(store.root / "hair" / "round_0002")
    shutil.copytree(store.root / "skin" / "round_0002", store.root / "hair" / "round_0002")
    with pytest.raises(RunDamagedError, match="does not belong"):
        store.head("hair")
    shutil.rmtree(store.root / "hair" / "round_0002")
    shutil.copytree(store.root / "hair" / "round_0001", store.root / "hair" / "round_0002")
    with pytest.raises(RunDamagedError, match="does not belong"):
        store.head("hair")


def test_a_round_that_follows_a_remade_round_is_not_taken(store, train, tmp_path):
    train("hair", 2)
    shutil.move(store.root / "hair" / "round_0002", tmp_path / "second")
    shutil.rmtree(store.root / "hair" / "round_0001")
    train("hair", 1)
    shutil.move(tmp_path / "second", store.root / "hair" / "round_0002")
    with pytest.raises(RunDamagedError, match="does not belong"):
        store.head("hair")


def test_an_empty_round_folder_is_not_overwritten(store, train, record):
    train("hair", 1)
    (store.root / "hair" / "round_0002").mkdir()
    with pytest.raises(RunDamagedError, match=r"round_0002.*round\.json is missing"):
        store.write_round("hair", store.head, 1, record())
    with pytest.raises(RunDamagedError, match="round_0002"):
        store.head("hair")


def test_a_folder_that_appears_while_writing_is_not_overwritten(store, train, record, monkeypatch):
    train("hair", 1)
    target = store.root / "hair" / "round_0002"
    monkeypatch.setattr(files, "sync_folder", lambda folder: target.mkdir(exist_ok=True))
    with pytest.raises(RunDamagedError, match="in the way"):
        store.write_round("hair", store.head("hair").uuid, 1, record(2))
    assert list(target.iterdir()) == []


def test_weights_swapped_for_valid_ones_are_noticed(store, train, policy):
    train("hair", 2)
    folder = store.root / "hair"
    shutil.copy(folder / "round_0001" / "lora.safetensors", folder / "round_0002")
    with pytest.raises(RunDamagedError, match="changed after it was written"):
        store.head("hair")
    # even with a round.json that was made to fit
    info = json.loads((folder / "round_0002" / "round.json").read_text())
    data = (folder / "round_0002" / "lora.safetensors").read_bytes()
    info["files"]["lora.safetensors"] = {"bytes": len(data), "sha256": files.sha256(data)}
    (folder / "round_0002" / "round.json").write_text(json.dumps(info))
    with pytest.raises(RunDamagedError, match="does not hold the weights"):
        store.head("hair")


def test_nan_weights_on_disk_are_never_read(store, train):
    train("hair", 1)
    folder = store.root / "hair" / "round_0001"
    data = bytearray((folder / "lora.safetensors").read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"
    (folder / "lora.safetensors").write_bytes(data)
    info = json.loads((folder / "round.json").read_text())
    info["files"]["lora.safetensors"]["sha256"] = files.sha256(bytes(data))
    (folder / "round.json").write_text(json.dumps(info))
    with pytest.raises(RunDamagedError, match="NaN"):
        store.head("hair")


def test_manifest_troubles_say_what_to_do(store, train):
    train("hair", 1)
    path = store.root / "hair" / "manifest.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "schema": 2}))
    with pytest.raises(RunDamagedError, match="newer version of PXPO"):
        store.head("hair")
    path.write_text(json.dumps({**good, "uuid": "../.."}))
    with pytest.raises(RunDamagedError, match="field uuid is not valid"):
        store.head("hair")
    path.write_text(json.dumps({**good, "lora": {"r": 2}}))
    with pytest.raises(RunDamagedError, match="LoRA settings"):
        store.head("hair")
    path.write_text("[" * 100_000)
    with pytest.raises(RunDamagedError, match="not readable JSON"):
        store.head("hair")
    path.unlink()
    with pytest.raises(RunDamagedError, match=r"has rounds but no manifest\.json"):
        store.head("hair")


def test_huge_json_is_not_parsed(store, train):
    train("hair", 1)
    path = store.root / "hair" / "manifest.json"
    with open(path, "wb") as file:
        file.truncate(files.MAX_JSON_BYTES + 1)
    with pytest.raises(RunDamagedError, match="more than the expected"):
        store.head("hair")


# crashes, leftovers, locks, disks


def test_whatever_fails_while_writing_the_run_is_as_it_was(store, train, record, monkeypatch):
    """Fail at the n-th durable step, for every n: no half round, no rubbish."""
    train("hair", 1)
    head = store.head("hair")
    before = names(store.root / "hair")
    steps = {"left": 0}

    def failing(function):
        def call(*arguments, **options):
            steps["left"] -= 1
            if steps["left"] == 0:
                raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return call

    for module, name in ((files.os, "fsync"), (writing.os, "rename"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, failing(getattr(module, name)))
    for n in range(1, 16):
        steps["left"] = n
        with pytest.raises(RunWriteError, match="No space left"):
            store.write_round("hair", head.uuid, 1, record(2))
        assert names(store.root / "hair") == before
        assert store.head("hair").round_id == head.round_id
    # 2 mkdir, 11 files, the folder, the rename; the last sync may fail, the round is there
    steps["left"] = 16
    store.write_round("hair", head.uuid, 1, record(2))
    assert steps["left"] == 0
    assert store.head("hair").round == 2


def test_a_killed_writer_leaves_a_readable_run(store, train, record):
    train("hair", 1)
    code = f"""
    import sys, time
    sys.path[:0] = [{str(REPOSITORY)!r}, {str(Path(__file__).parent)!r}]
    from pxpo_core.run import RunStore, writing
    from conftest import make_record
    def stop(*a):
        print("ready", flush=True)
        time.sleep(60)
    writing.os.rename = stop
    runs = RunStore({str(store.root)!r})
    runs.write_round("hair", runs.head("hair").uuid, 1, make_record(2))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    left = [n for n in names(store.root / "hair") if n.startswith(".tmp-")]
    assert len(left) == 1
    head = store.head("hair")  # readers need no lock
    assert head.round == 1
    with pytest.raises(RunBusyError, match="being written by another process"):
        store.write_round("hair", head.uuid, 1, record(2))
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    process.stdout.close()
    assert store.write_round("hair", head.uuid, 1, record(2)).round == 2
    assert not [n for n in names(store.root / "hair") if n.startswith(".tmp-")]


def test_leftovers_of_other_people_are_kept(store, train):
    train("hair", 1)
    folder = store.root / "hair" / (".tmp-" + "0" * 32)
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    (folder / "my notes.txt").write_text("keep me")
    link = store.root / "hair" / (".tmp-" + "1" * 32)
    link.symlink_to(store.root / "hair" / "round_0001", target_is_directory=True)
    (store.root / "hair" / ".tmp-mine").mkdir()
    train("hair", 1)
    assert names(folder) == {"my notes.txt"}
    assert not link.is_symlink()
    assert (store.root / "hair" / ".tmp-mine").is_dir()
    assert store.head("hair").round == 2
    assert (store.root / "hair" / "round_0001" / "state.json").exists()


def test_a_second_writer_waits_and_is_then_told(store, train, record):
    train("hair", 1)
    head = store.head("hair")
    with writer_lock(store.root / "hair", 1.0), pytest.raises(RunBusyError):
        store.write_round("hair", head.uuid, 1, record(2))
    assert store.write_round("hair", head.uuid, 1, record(2)).round == 2


def test_two_processes_cannot_write_the_same_round(store, train):
    """Two writers race for every round of a run: each round is written once."""
    code = f"""
    import sys
    sys.path[:0] = [{str(REPOSITORY)!r}, {str(Path(__file__).parent)!r}]
    from pxpo_core.run import RunStore, StaleRolloutError
    from conftest import make_record
    runs, done = RunStore({str(store.root)!r}), 0
    while done < 3:
        head = runs.head("hair")
        try:
            runs.write_round("hair", head.uuid, head.round, make_record(done))
        except StaleRolloutError:
            continue
        done += 1
    """
    train("hair", 1)
    workers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)]) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert store.head("hair").round == 7
    assert len(store.history("hair")) == 7


def test_a_full_disk_is_said_before_anything_is_written(store, train, record, monkeypatch):
    train("hair", 1)
    before = names(store.root / "hair")
    usage = shutil.disk_usage(store.root)._replace(free=10_000_000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunWriteError, match="10 MB free"):
        store.write_round("hair", store.head("hair").uuid, 1, record(2))
    assert names(store.root / "hair") == before


def test_a_root_that_is_a_file_is_a_sentence(tmp_path, record):
    (tmp_path / "pxpo").write_text("")
    with pytest.raises(RunError):
        RunStore(tmp_path / "pxpo").write_round("hair", None, 0, record())


def test_a_root_behind_a_link_works(tmp_path, record):
    (tmp_path / "real").mkdir()
    (tmp_path / "pxpo").symlink_to(tmp_path / "real", target_is_directory=True)
    store = RunStore(tmp_path / "pxpo")
    assert store.write_round("hair", None, 0, record()).round == 1
    assert (tmp_path / "real" / "hair" / "round_0001").is_dir()


def test_a_thousand_rounds_stay_quick(store, train):
    """What a press reads of a long run: well under a second, and every round's metrics with it.

    In CPU time, of which other processes take none away.
    """
    train("hair", 1)
    folder = store.root / "hair"
    info = json.loads((folder / "round_0001" / "round.json").read_text())
    for number in range(2, 1001):
        target = folder / f"round_{number:04d}"
        target.mkdir()
        for file in NEEDED:
            os.link(folder / "round_0001" / file, target / file)
        info = {**info, "previous": info["id"], "id": f"{number:032x}", "round": number}
        (target / "round.json").write_text(json.dumps(info))
    start = time.process_time()
    head = store.head("hair")
    assert time.process_time() - start < 1.0  # 0.09 s on an idle machine
    assert [entry["round"] for entry in head.history] == list(range(1, 1001))
    assert list(head.history) == store.history("hair")
    start = time.process_time()
    store.fingerprint("hair")
    assert time.process_time() - start < 0.1
