"""Waiting for a person in the middle of a run: messages out, a file back.

No route is needed: the host passes messages on, and a page answers through the host's own upload.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .marks import Marks

SECONDS_BETWEEN_CALLS = 2.0
"""A page that is opened meanwhile hears of the wait this soon."""
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_ALONE = 30.0
"""Without any page this long, nobody is coming: a reload is much quicker."""

TIME_OVER = "Nobody answered in {minutes:g} minutes"
NOBODY_THERE = "No web page was open to answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """marks: what the person said, or None, and then `why` is the reason in a few words."""

    marks: Marks | None
    why: str = ""


async def wait_for_answer(
    seconds: float,
    look: Callable[[], Marks | None],
    call: Callable[[float], None],
    is_anybody_there: Callable[[], bool],
    is_from_a_page: bool,
    check_interrupt: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Answer:
    """Wait until `look` finds marks, at most `seconds`.

    call: tells pages how many seconds are left. is_from_a_page: whether a page asked for this run;
    if not, and none is open, there is no waiting at all. check_interrupt: raises to end the wait.
    """
    start = seen = clock()
    called = -SECONDS_BETWEEN_CALLS
    while True:
        check_interrupt()
        marks = look()
        if marks is not None:
            return Answer(marks)
        now = clock()
        if is_anybody_there():
            seen = now
        elif not is_from_a_page or now - seen >= SECONDS_ALONE:
            return Answer(None, NOBODY_THERE)
        left = start + seconds - now
        if left <= 0:
            return Answer(None, TIME_OVER.format(minutes=round(seconds / 60, 2)))
        if now - start - called >= SECONDS_BETWEEN_CALLS:
            called = now - start
            call(left)
        await sleep(min(SECONDS_BETWEEN_LOOKS, left))
