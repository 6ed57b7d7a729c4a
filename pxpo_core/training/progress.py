"""Progress of a training as log lines: what is being done, how far, and how long it will take."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

TRAINING_COST = 3.0
"""A training call of the model against a sampling call: forward, backward and its overhead."""

INTERVAL = 5.0
"""Seconds between lines."""


class Progress:
    """Counts a training's work in units of one sampling call."""

    def __init__(self, done: int, rounds: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._rounds, self._clock = done, rounds, clock
        self._start = self._said = clock()
        self._round, self._share = done, 0.0

    def sampling(self, calls: int, total: int, training: int) -> None:
        """calls of the round's `total` sampling calls are done, and none of `training`."""
        self._at(calls / (total + TRAINING_COST * training), f"sampling, step {calls} of {total}")

    def training(self, calls: int, total: int, sampling: int) -> None:
        """calls of the round's `total` training calls are done, after `sampling` calls."""
        share = (sampling + TRAINING_COST * calls) / (sampling + TRAINING_COST * total)
        self._at(share, f"training, batch {calls} of {total}")

    def finished(self, text: str) -> None:
        """A round is on the disk."""
        self._round, self._share, self._said = self._round + 1, 0.0, self._clock()
        logger.info("Round %d of %d: %s; %s", self._round, self._rounds, text, self._left())

    def _at(self, share: float, text: str) -> None:
        self._share = share
        if self._clock() - self._said >= INTERVAL:
            self._said = self._clock()
            logger.info("Round %d of %d: %s; %s", self._round + 1, self._rounds, text, self._left())

    def _left(self) -> str:
        elapsed = self._clock() - self._start
        done = self._round - self._first + self._share
        left = self._rounds - self._round - self._share
        if done <= 0.0:
            return f"{duration(elapsed)} so far"
        return f"{duration(elapsed)} so far, about {duration(elapsed / done * left)} left"


def duration(seconds: float) -> str:
    """ "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
