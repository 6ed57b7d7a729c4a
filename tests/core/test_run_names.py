"""Run names: what may become a folder, and what may not."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pxpo_core.run import RunNameError, RunStore, run_directory, validate_run_name

BAD = [
    "", " ", ".", "..", "...", "../hair", "a/b", "a\\b", "/etc", "C:", "C:\\x", "~", "-x", "_x",
    " x", "x ", "x.", "x.y", "x\n", "x\0y", "x\ty", "hair%2e%2e", "h\u00e4ir", "x" * 65, "\u0661",
    "con", "NUL", "Aux", "com1", "LPT9", "com0", "x:y", "x*", "x?", "\u202ex", "file://x",
]  # fmt: skip
GOOD = ["a", "0", "my_run", "Hair 2 - blue", "x" * 64, "conx", "com10", "a-", "a_", "round_0001"]


@pytest.mark.parametrize("name", GOOD)
def test_good_names_are_returned(name, tmp_path):
    assert validate_run_name(name) == name
    assert run_directory(tmp_path, name) == Path(os.path.realpath(tmp_path)) / name


@pytest.mark.parametrize("name", [*BAD, None, 3, b"x", ["x"]])
def test_bad_names_are_refused_with_the_value(name, tmp_path):
    with pytest.raises(RunNameError, match="cannot be a run name") as caught:
        run_directory(tmp_path, name)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 300


anything = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="aZ0 _-./\\:~\0\n", max_size=70),
    st.lists(st.sampled_from(["..", "/", "\\", "a", "con", " ", "\0"]), max_size=8).map("".join),
)


@given(anything)
@example("a\n")
@example("a ")
@example("x" * 64)
@settings(max_examples=400, deadline=None)
def test_no_name_leaves_the_root(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "names"
    root.mkdir(exist_ok=True)
    (root / "hair").mkdir(exist_ok=True)
    try:
        folder = run_directory(root, name)
    except RunNameError:
        return
    assert folder.parent == Path(os.path.realpath(root))
    assert folder.name == name
    assert Path(os.path.realpath(folder)).parent == Path(os.path.realpath(root))
    assert name.isascii()
    assert not set(name) & set('<>:"/\\|?*.\0\n')


def test_a_linked_run_folder_is_refused(tmp_path, store, record):
    store.root.mkdir()
    for target in (tmp_path, store.root / "hair", store.root / "missing", "self"):
        link = store.root / "self"
        link.symlink_to(target, target_is_directory=True)
        with pytest.raises(RunNameError, match="is a link"):
            store.write_round("self", None, 0, record())
        with pytest.raises(RunNameError, match="is a link"):
            store.head("self")
        with pytest.raises(RunNameError, match="is a link"):
            store.fingerprint("self")
        link.unlink()


def test_a_file_in_the_place_of_a_run_is_refused(store, record):
    store.root.mkdir()
    (store.root / "hair").write_text("")
    for call in (store.head, store.fingerprint, store.history):
        with pytest.raises(RunNameError, match="is not a folder"):
            call("hair")


def test_names_that_differ_in_capitals_are_one_run(store, train):
    train("Hair", 1)
    with pytest.raises(RunNameError, match="already a run named 'Hair'"):
        store.head("hair")
    assert store.head("Hair").round == 1


def test_the_store_refuses_bad_names_everywhere(tmp_path, record):
    store = RunStore(tmp_path)
    calls = (store.head, store.fingerprint, store.history)
    for call in calls:
        with pytest.raises(RunNameError):
            call("../x")
    with pytest.raises(RunNameError):
        store.write_round("../x", None, 0, record())
    assert list(tmp_path.iterdir()) == []


def test_every_template_has_a_run_of_its_own():
    """Two templates opened one after the other must not train one run."""
    names = []
    for path in sorted((Path(__file__).parents[2] / "example_workflows").glob("*.json")):
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        names += [node["widgets_values"][0] for node in nodes if node["type"] == "PXPO_Run"]
    assert len(names) >= 2
    assert len(set(names)) == len(names)
    assert [validate_run_name(name) for name in names] == names
