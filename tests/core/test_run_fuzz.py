"""Runs damaged at random: the old data, or a sentence; never a crash, never a write."""

import json
import shutil
from collections.abc import Callable
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
