"""What was found after a kill: every round that was reported must be there, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field

from pxpo_core.run import RunError, RunStore


@dataclass
class Findings:
    """Counts over all kills. problems: a sentence for everything that is not as it must be."""

    kills: int = 0
    while_writing: int = 0
    disk_full: int = 0
    read_only: int = 0
    lost: int = 0
    corrupt: int = 0
    unclear: int = 0
    refused: int = 0
    rounds_reported: int = 0
    rounds_checked: int = 0
    unfinished_folders: int = 0
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def problem(self, kind: str, text: str) -> None:
        """kind: lost, corrupt or unclear."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.problems.append(text)
        print(f"  {kind.upper()}: {text}", flush=True)


def digests(store: RunStore, name: str) -> list[str]:
    """The LoRA of every round, fully read and checked."""
    head = store.head(name)
    count = 0 if head is None else head.round
    return [store.policy(name, number).digest for number in range(1, count + 1)]


def check(
    store: RunStore, name: str, known: dict[int, str], expected: list[str], found: Findings
) -> int:
    """Open the run and compare. Returns the run's round, -1 when it cannot be opened.

    known: digests of the rounds that were reported, "" for one not looked at yet; it is filled.
    expected: digests of the undisturbed run.
    """
    try:
        made = digests(store, name)
        assert len(store.history(name)) == len(made)
    except (RunError, AssertionError) as error:
        found.problem("corrupt", f"{name} cannot be opened: {error}")
        return -1
    found.rounds_checked += len(made)
    for number, digest in known.items():
        if number > len(made):
            found.problem("lost", f"{name} round {number} was reported and is not there")
        elif digest and made[number - 1] != digest:
            found.problem("corrupt", f"{name} round {number} changed")
    for number, digest in enumerate(made, start=1):
        if digest != expected[number - 1]:
            found.problem("corrupt", f"{name} round {number} differs from the undisturbed run")
        known[number] = digest
    return len(made)


def unfinished(store: RunStore, name: str) -> int:
    """How many temporary folders a kill left in the run."""
    folder = store.root / name
    return sum(p.name.startswith(".tmp-") for p in folder.iterdir()) if folder.is_dir() else 0
