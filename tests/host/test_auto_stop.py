"""An automatic reward does not train on once the pictures fall apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from host_prompts import Graph, rounds
from pxpo_dev.server import Server

RUINOUS = {"learning_rate": 0.015, "train_steps": 3, "auto_stop": True}


def test_it_warns_then_stops_and_goes_on_if_told_to(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    texts = []
    for _ in range(6):
        texts.append(server.client.run(press(update=RUINOUS)).ui("update", "text")[0])
        if texts[-1].startswith("Stopped"):
            break
    assert "Careful" in texts[-2], texts
    assert texts[-1].startswith("Stopped, because compared with the first rounds"), texts
    made = rounds(folder)
    assert len(made) == len(texts) - 1, "the stopped press made no round"

    again = server.client.run(press(update=RUINOUS)).ui("update", "text")[0]
    assert again.startswith("Stopped"), "the next press stops too"
    anyway = press(update={**RUINOUS, "auto_stop": False})
    assert "Careful" in server.client.run(anyway).ui("update", "text")[0]
    assert len(rounds(folder)) == len(made) + 1


def test_one_round_that_goes_much_too_far_is_the_last(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """A distance is no chance sign: no second round is waited for."""
    far = {**RUINOUS, "learning_rate": 0.06}
    server.client.run(press(update=far))
    text = server.client.run(press(update=far)).ui("update", "text")[0]
    assert text.startswith("Stopped, because compared with the first rounds"), text
    assert "moved far from the base model" in text
    assert len(rounds(folder)) == 1


def test_the_distance_to_the_base_model_is_measured_from_the_second_round_on(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    drifts = [server.client.run(press()).ui("update", "pxpo_update")[0]["drift"] for _ in range(3)]
    assert drifts[0] == 0.0
    assert 0.0 < drifts[1] < drifts[2]
