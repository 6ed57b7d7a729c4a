"""What ComfyUI loads needs none of the library's packages, and reaches none of its commands."""

from __future__ import annotations

import ast
from pathlib import Path

from pxpo_dev.paths import REPO

OPTIONAL = {"diffusers", "peft", "accelerate", "transformers", "tomli", "tomllib"}
LIBRARY = ("pxpo_core/backends/diffusers", "pxpo_core/backends/accelerate_workers.py",
           "pxpo_core/training", "pxpo_core/__main__.py")  # fmt: skip


def pack_files() -> list[Path]:
    """Every Python file of the pack that is not the library's own."""
    found = [REPO / "__init__.py"]
    for folder in ("nodes", "pxpo_core", "demo"):
        found += sorted((REPO / folder).rglob("*.py"))
    return [
        path for path in found if not path.relative_to(REPO).as_posix().startswith(LIBRARY)
    ]  # fmt: skip


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, relative ones with their leading dots."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_the_pack_needs_no_optional_package() -> None:
    files = pack_files()
    assert len(files) > 60
    for path in files:
        assert not {name.partition(".")[0] for name in imports(path)} & OPTIONAL, path


def test_nothing_in_the_pack_reaches_the_library() -> None:
    """A reward function in a configuration is code: no workflow may come near it."""
    for path in pack_files():
        for name in imports(path):
            parts = name.split(".")
            assert "training" not in parts or "demo" in path.parts, (path, name)
            assert "diffusers" not in parts, (path, name)
            assert "accelerate_workers" not in parts, (path, name)
