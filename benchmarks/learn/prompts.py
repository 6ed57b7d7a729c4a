"""The prompts of the tasks: what the model trains on, and held-out ones it is judged on.

But for the alignment task none names a colour or hair, so that neither "less blue" nor "less
hair" contradicts a prompt.
"""

from __future__ import annotations

TRAINING = (
    "portrait",
    "portrait, smiling",
    "portrait, neutral, light skin",
    "portrait, open mouth, dark skin",
)
HELD_OUT = (
    "portrait, tan skin",
    "portrait, light skin, smiling",
    "portrait, dark skin, neutral",
    "portrait, open mouth",
    "light skin, open mouth",
    "dark skin, smiling",
    "portrait, tan skin, neutral",
    "portrait, smiling, dark skin",
)
COLOURED_TRAINING = (
    "portrait, blue hair, smiling",
    "portrait, pink hair, dark skin",
    "portrait, green hair, neutral",
    "portrait, blonde hair, light skin",
)
COLOURED_HELD_OUT = (
    "portrait, blue hair, tan skin",
    "pink hair, smiling",
    "portrait, green hair, light skin",
    "blonde hair, open mouth, dark skin",
)
"""Of the alignment task: the same four hair colours beside other things."""


def spread(prompts: tuple[str, ...], count: int) -> list[str]:
    """`count` prompts, each as often as any other, equal ones side by side."""
    return [prompts[i * len(prompts) // count] for i in range(count)]


def interleaved(prompts: tuple[str, ...], count: int) -> list[str]:
    """`count` prompts in turn, so that the first n of them are as varied as all."""
    return [prompts[i % len(prompts)] for i in range(count)]
