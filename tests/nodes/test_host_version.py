"""An old ComfyUI is told so in one sentence when the pack is loaded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "versioned_pack"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], ModuleType]]:
    """Loads the pack as a ComfyUI of some version does; None: outside ComfyUI."""

    def load(version: str | None) -> ModuleType:
        if version is None:
            monkeypatch.delitem(sys.modules, "comfyui_version", raising=False)
        else:
            host = ModuleType("comfyui_version")
            host.__version__ = version  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, "comfyui_version", host)
        spec = importlib.util.spec_from_file_location(
            NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.mark.parametrize("version", ["0.2.7", "0.3.9", "0.3.74"])
def test_an_old_host_is_refused_with_what_to_do(
    load: Callable[[str | None], ModuleType], version: str
) -> None:
    with pytest.raises(
        RuntimeError, match=rf"0\.3\.75 or newer, and this is {version}\. Update ComfyUI .*restart"
    ):
        load(version)


@pytest.mark.parametrize("version", ["0.3.75", "0.3.100", "0.33.0", "1.0.0", "nightly", None])
def test_other_versions_and_other_programs_may_import_it(
    load: Callable[[str | None], ModuleType], version: str | None
) -> None:
    assert load(version).WEB_DIRECTORY == "./web"
