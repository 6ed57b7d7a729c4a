"""How far a round goes, in words instead of a number; evidence in docs/learning.md."""

CUSTOM = "custom"
LEARNING_RATES = {"gentle": 3e-4, "normal": 1e-3, "strong": 3e-3}
PRESETS = (CUSTOM, *LEARNING_RATES)


def learning_rate_of(preset: str, learning_rate: float) -> float:
    """The preset's learning rate; with "custom" the one that was set. ValueError if unknown."""
    if preset not in PRESETS:
        raise ValueError(f"preset is one of {', '.join(PRESETS)}; got {preset!r:.80}.")
    return LEARNING_RATES.get(preset, learning_rate)
