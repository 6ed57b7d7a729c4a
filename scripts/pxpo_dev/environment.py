"""A virtual environment of our own, made once and reused while its requirements stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .paths import HOME, SCRIPTS

TORCH = SCRIPTS / "requirements-torch.txt"
COMFYUI = SCRIPTS / "requirements-demo.txt"
TEST = SCRIPTS / "requirements-test.txt"
MINIMUM_PYTHON = (3, 10)


class EnvironmentFailed(RuntimeError):
    """The environment could not be made; the message says why."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment on disk."""

    root: Path

    @property
    def python(self) -> Path:
        """The interpreter (`Scripts` on Windows, `bin` elsewhere)."""
        if os.name == "nt":
            return self.root / "Scripts" / "python.exe"
        return self.root / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """Names the requirement files that were installed and their hashes."""
        return self.root / "pxpo-environment.json"

    def installed(self) -> dict[str, str]:
        """Requirement file name -> hash, as installed; empty when nothing usable is there."""
        if not self.python.exists():
            return {}
        try:
            found = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict) or found.get("python") != python_series():
            return {}
        return dict(found.get("requirements", {}))

    def pip(self, *arguments: str | Path) -> None:
        """Run pip inside the environment; raise EnvironmentFailed when it fails."""
        command = [str(self.python), "-m", "pip", *map(str, arguments)]
        result = subprocess.run(command, check=False)
        if result.returncode:
            raise EnvironmentFailed(
                f"pip failed with exit code {result.returncode} (its messages are above). "
                f"The command was: {' '.join(command)}"
            )


def python_series() -> str:
    """The running interpreter's series, such as "3.11": an environment does not outlive it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def ensure(requirements: Sequence[Path], root: Path | None = None) -> Environment:
    """Make the environment, or reuse it if exactly these requirement files are installed in it."""
    if sys.version_info < MINIMUM_PYTHON:
        raise EnvironmentFailed(
            f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer is needed; "
            f"this is {sys.version.split()[0]} ({sys.executable})."
        )
    environment = Environment(root or HOME / "venv")
    wanted = {path.name: file_hash(path) for path in requirements}
    installed = environment.installed()
    if all(installed.get(name) == digest for name, digest in wanted.items()):
        return environment
    if installed:
        print("Updating the environment: its requirements have changed.", flush=True)
    else:
        print(f"Making the environment in {environment.root} (once; a few minutes).", flush=True)
        if environment.root.exists():
            shutil.rmtree(environment.root)
        environment.root.parent.mkdir(parents=True, exist_ok=True)
        try:
            venv.create(environment.root, with_pip=True)
        except subprocess.CalledProcessError as error:
            raise EnvironmentFailed(
                "Python could not make a virtual environment with pip. On Debian and Ubuntu "
                f"install the package python3-venv first. ({error})"
            ) from error
    environment.stamp.unlink(missing_ok=True)
    environment.pip(
        "install",
        "--no-compile",  # of 14,000 files most are never imported, and Python compiles the others
        "--quiet",
        "--disable-pip-version-check",
        *(argument for path in requirements for argument in ("-r", path)),
    )
    stamp = {"python": python_series(), "requirements": {**installed, **wanted}}
    environment.stamp.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    return environment


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def enter(environment: Environment, script: str, arguments: Sequence[str]) -> None:
    """Go on in the environment's interpreter; returns only if this already is that interpreter."""
    if Path(sys.prefix).resolve() == environment.root.resolve():
        return
    command = [str(environment.python), script, *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    # Windows has no exec: a console's Ctrl+C reaches the child by itself, so only wait for it.
    child = subprocess.Popen(command)
    while True:
        try:
            sys.exit(child.wait())
        except KeyboardInterrupt:
            continue
