"""Runs damaged at random: the old data, or a sentence; never a crash, never a write."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pxpo_core.run import RunError, RunStore

FILES = [
    "manifest.json", "round_0001/round.json", "round_0002/round.json", "round_0002/state.json",
    "round_0002/lora.safetensors", "round_0002/optimizer.safetensors", "round_0001/metrics.json",
]  # fmt: skip

json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.integers(10**400, 10**401), st.floats(),
        st.text(max_size=8), st.sampled_from(["../x", "round.json", "0" * 32, "0" * 64, "\ud800"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip

light = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_rounds) -> Path:
    """A run of two rounds, and a place to damage copies of it."""
    root = tmp_path_factory.mktemp("fuzz")
    make_rounds(RunStore(root / "whole"), "hair", 2)
    return root


def copy_of(whole: Path) -> Path:
    copy = whole / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole / "whole", copy)
    return copy


def asked(question: Callable[[str], Any]) -> tuple[Any, str]:
    try:
        return question("hair"), ""
    except RunError as error:
        return None, str(error)


def check(whole: Path, copy: Path) -> None:
    """Everything the nodes ask of a run gives the truth or a RunError, and changes nothing."""
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    good = RunStore(whole / "whole").head("hair")
    store = RunStore(copy, lock_timeout=1.0)
    store.fingerprint("hair")
    head, error = asked(store.head)
    if head is None:
        assert 20 < len(error) < 1000
    else:
        assert head.round == 2
        assert head.policy.digest == good.policy.digest
        assert head.state == good.state
    asked(store.history)
    asked(store.lora_settings)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@given(st.data())
@light
def test_any_bytes_in_any_file(whole, data):
    copy = copy_of(whole)
    path = copy / "hair" / data.draw(st.sampled_from(FILES))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 16)))
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=16)) + content[stop:])
    check(whole, copy)


@given(st.data())
@light
def test_any_value_in_any_field(whole, data):
    copy = copy_of(whole)
    path = copy / "hair" / data.draw(st.sampled_from([f for f in FILES if f.endswith(".json")]))
    document = json.loads(path.read_text())
    place = document
    while True:
        keys = sorted(place)
        key = data.draw(st.sampled_from(keys)) if keys else "new"
        inner = place.get(key)
        if not isinstance(inner, dict) or not inner or data.draw(st.booleans()):
            break
        place = inner
    change = data.draw(st.sampled_from(["replace", "delete", "add"]))
    if change == "delete":
        place.pop(key, None)
    else:
        place[key if change == "replace" else "extra"] = data.draw(json_values)
    path.write_text(json.dumps(document))
    check(whole, copy)


@given(st.binary(max_size=200) | json_values.map(json.dumps).map(str.encode))
@light
def test_any_document_for_a_manifest_or_round(whole, content):
    copy = copy_of(whole)
    for file in FILES[:3]:
        path = copy / "hair" / file
        kept = path.read_bytes()
        path.write_bytes(content)
        check(whole, copy)
        path.write_bytes(kept)


# damage of any kind, and then every command


@pytest.fixture(scope="module")
def branched(tmp_path_factory: pytest.TempPathFactory, make_rounds) -> Path:
    """A run of three rounds and a branch of two, and a folder that is nobody's business."""
    root = tmp_path_factory.mktemp("commands")
    store = RunStore(root / "whole", keep_last=0)
    make_rounds(store, "hair", 4)
    store.go_back("hair", 2, "command_0001")
    make_rounds(store, "hair", 1)
    (root / "outside" / "round_0009").mkdir(parents=True)
    for name in ("secret.json", "round_0009/round.json", "round_0009/lora.safetensors"):
        (root / "outside" / name).write_bytes(b'{"schema": 1}')
    return root


def parts(folder: Path) -> tuple[list[Path], list[Path]]:
    """Every file and every folder of a run, relative to it."""
    found = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.name != ".lock" and not path.is_symlink()
    )
    return [p for p in found if (folder / p).is_file()], [p for p in found if (folder / p).is_dir()]


def do_damage(data: st.DataObject, folder: Path, outside: Path) -> None:
    """One thing that a person, a full disk or another program may do to a run."""
    all_files, folders = parts(folder)
    if not all_files:
        return
    file = folder / data.draw(st.sampled_from(all_files))
    place = folder / data.draw(st.sampled_from(folders)) if folders else file
    kind = data.draw(
        st.sampled_from(
            ["truncate", "delete", "link", "link folder", "swap", "value", "folder", "move",
             "delete folder", "journal", "deletion", "file for folder", "add"]
        )
    )  # fmt: skip
    if kind == "truncate":
        content = file.read_bytes()
        file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    elif kind == "delete":
        file.unlink()
    elif kind == "link":
        file.unlink()
        file.symlink_to(outside / "secret.json")
    elif kind == "link folder":
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        target = data.draw(st.sampled_from([outside / "round_0009", outside, folder, Path("/x")]))
        place.symlink_to(target, target_is_directory=True)
    elif kind == "swap":
        other = folder / data.draw(st.sampled_from(all_files))
        one, two = file.read_bytes(), other.read_bytes()
        file.write_bytes(two)
        other.write_bytes(one)
    elif kind == "value":
        file.write_text(json.dumps(data.draw(json_values)))
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    elif kind == "move" and place.is_dir():
        name = data.draw(st.sampled_from(["round_0001", "round_0003", "round_0007", "0001", "x"]))
        if not os.path.lexists(place.with_name(name)):
            place.rename(place.with_name(name))
    elif kind == "delete folder":
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    elif kind == "file for folder":
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.write_text("x")
    elif kind == "add":
        name = data.draw(st.sampled_from(["notes.txt", "round_0004"]))
        (place if place.is_dir() else file.parent).joinpath(name).write_text("mine")
    elif kind in ("journal", "deletion"):
        uuid = json.loads((folder.parent / "uuid").read_text())
        document = {"schema": 1, "run": uuid, "to": data.draw(st.integers(-1, 5)), "branch": 1}
        document |= {"branch": data.draw(st.integers(0, 3)), "token": "command_0009"}
        document |= {"trash": data.draw(st.sampled_from([f"hair-{'0' * 32}", "../x", "hair"]))}
        (folder / (".going-back.json" if kind == "journal" else ".deleting.json")).write_text(
            json.dumps(document)
        )


COMMANDS: dict[str, Callable[..., Any]] = {
    "read": lambda store, uuid, record: [
        asked(question)
        for question in (
            store.head, store.history, store.lora_settings, store.uuid, store.branches, store.check,
            store.fingerprint, partial(store.policy, round_=2), partial(store.thumbnail, round_=2),
            partial(store.thumbnail, round_=4, branch=1), partial(store.branch_history, branch=1),
        )
    ],
    "write": lambda store, uuid, record: store.write_round("hair", uuid, 3, record(7)),
    "write first": lambda store, uuid, record: store.write_round("hair", uuid, 0, record(7)),
    "go back": lambda store, uuid, record: store.go_back("hair", 1, "command_0002"),
    "go back again": lambda store, uuid, record: store.go_back("hair", 0, "command_0001"),
    "copy": lambda store, uuid, record: store.fork("hair", "skin"),
    "copy a branch": lambda store, uuid, record: store.fork("hair", "skin", 4, 1),
    "delete": lambda store, uuid, record: store.delete("hair", uuid, 5),
}  # fmt: skip


def precious(root: Path) -> Counter[bytes]:
    """What a person would miss: the contents of all rounds' files, wherever they are now."""
    kept = (".safetensors", ".png", ".jpg", ".txt")
    names = ("state.json", "metrics.json", "settings.json")
    return Counter(
        path.read_bytes()
        for path in root.rglob("*")
        if (path.suffix in kept or path.name in names)
        and path.is_file()
        and not path.is_symlink()
        and ".tmp-" not in str(path)
    )


@given(st.data())
@settings(light, max_examples=100)
def test_any_command_on_a_damaged_run(branched, record, data):
    """A sentence or the work done; every file of every round is still there, nothing outside is."""
    root, outside = branched / "copy", branched / "outside"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(branched / "whole", root)
    uuid = RunStore(root).uuid("hair")
    (root / "uuid").write_text(json.dumps(uuid))
    for _ in range(data.draw(st.integers(1, 3))):
        with suppress(OSError):  # two of them may not go together
            do_damage(data, root / "hair", outside)
    before, theirs = precious(root), everything(outside)
    store = RunStore(root, lock_timeout=1.0, keep_last=0)
    for name in data.draw(st.lists(st.sampled_from(sorted(COMMANDS)), min_size=1, max_size=3)):
        said = ""
        try:
            COMMANDS[name](store, uuid, record)
        except RunError as error:
            said = str(error)
        assert not said or 20 < len(said) < 1000
        assert not before - precious(root), name
        assert everything(outside) == theirs, name


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
