"""The checks of JavaScript: node runs them, npm fetches the linter once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .environment import file_hash
from .paths import HOME, REPO, SCRIPTS

TOOLS = SCRIPTS / "javascript"
SOURCES = ("web", "tests/js", "eslint.config.mjs")


def checks() -> list[tuple[str, list[list[str]]]]:
    """(name, commands) of every check; a line says which are left out, and why."""
    node = shutil.which("node")
    if node is None:
        print("The JavaScript checks are skipped: node was not found.", flush=True)
        return []
    scripts = [path for kind in ("*.js", "*.mjs") for path in sorted((REPO / "web").rglob(kind))]
    found = [
        ("JavaScript syntax", [[node, "--check", str(path)] for path in scripts]),
        ("JavaScript tests", [[node, "--test", str(REPO / "tests" / "js")]]),
    ]
    eslint = linter()
    if eslint is not None:
        command = [node, str(eslint), "--max-warnings", "0", *SOURCES]
        found.insert(0, ("JavaScript lint", [command]))
    return found


def linter() -> Path | None:
    """ESLint's program, installed exactly as package-lock.json says; None where that fails."""
    root = HOME / "javascript"
    program = root / "node_modules" / "eslint" / "bin" / "eslint.js"
    stamp = root / "installed"
    wanted = file_hash(TOOLS / "package-lock.json")
    if program.exists() and stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return program
    npm = shutil.which("npm")
    if npm is None:
        print("JavaScript is not linted: npm was not found.", flush=True)
        return None
    root.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(TOOLS / name, root / name)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"JavaScript is not linted: npm could not install ESLint ({last}).", flush=True)
        return None
    stamp.write_text(wanted, encoding="ascii")
    return program
