"""The pictures of Before / After: the difference and the labelled grid."""

from __future__ import annotations

import pytest
import torch

from pxpo_core.difference import (
    SMALLEST_SCALE,
    STOPS,
    AreaChange,
    change_by_area,
    difference,
    difference_heatmap,
    difference_scale,
    ramp,
)
from pxpo_core.metrics import most_marked
from pxpo_core.picture_grid import LARGEST_GRID, Column, labelled_grid


def pictures(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


def test_difference_is_the_mean_over_colours() -> None:
    before = torch.zeros(1, 2, 2, 3)
    after = before.clone()
    after[0, 0, 1] = torch.tensor([0.3, 0.0, 0.6])
    changes = difference(before, after)
    torch.testing.assert_close(changes, torch.tensor([[[0.0, 0.3], [0.0, 0.0]]]))
    torch.testing.assert_close(difference(after, before), changes)


def test_pictures_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="different sizes"):
        difference(pictures(1, 8, 8), pictures(1, 8, 9))


def test_change_is_told_apart_by_area_with_a_band_between() -> None:
    marked = torch.zeros(64, 96, dtype=torch.bool)
    marked[20:30, 40:50] = True
    changes = torch.full((64, 96), 0.1)
    changes[4:46, 24:66] = 9.0  # 16 pixels around, corners too
    changes[20:30, 40:50] = 0.4
    change = change_by_area(changes, marked)
    assert change.inside == pytest.approx(0.4)
    assert change.outside == pytest.approx(0.1)
    changes[3, 24] = 9.0
    assert change_by_area(changes, marked).outside > 0.1


def test_change_without_an_inside_or_an_outside() -> None:
    changes = torch.rand(40, 24)
    nothing = change_by_area(changes, torch.zeros(5, 3, dtype=torch.bool))
    assert nothing == AreaChange(None, pytest.approx(float(changes.mean())))
    everything = change_by_area(changes, torch.ones(40, 24, dtype=torch.bool))
    assert everything == AreaChange(pytest.approx(float(changes.mean())), None)


def test_the_most_marked_picture_is_a_reviewed_one() -> None:
    maps = torch.zeros(3, 4, 4)
    maps[0] = 1.0
    maps[1, 0] = 0.3
    maps[2, :2] = -1.0
    assert most_marked(maps, torch.tensor([True, True, True])) == 0
    assert most_marked(maps, torch.tensor([False, True, True])) == 2
    assert most_marked(torch.zeros(2, 4, 4), torch.tensor([False, True])) == 1


def test_one_pixel_does_not_set_the_scale_and_rounding_is_not_blown_up() -> None:
    changes = torch.full((1, 100, 100), 0.1)
    changes[0, 3, 3] = 1.0
    assert difference_scale(changes) == pytest.approx(0.1)
    assert difference_scale(torch.full((1, 4, 4), 1e-4)) == SMALLEST_SCALE


def test_larger_changes_are_brighter() -> None:
    changes = torch.linspace(0.0, 0.5, 64).reshape(1, 8, 8)
    heatmap = difference_heatmap(torch.zeros(1, 8, 8, 3), changes, 0.5)
    brightness = heatmap.sum(-1).flatten()
    assert bool((brightness.diff() > 0).all())
    torch.testing.assert_close(ramp(torch.tensor([0.0, 1.0])), torch.tensor([STOPS[0], STOPS[-1]]))


@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 256, 256), (3, 64, 96), (2, 2000, 800), (40, 64, 64)]
)
@pytest.mark.parametrize("columns", [2, 4])
def test_grid_sizes(batch: int, height: int, width: int, columns: int) -> None:
    images = pictures(1, height, width).expand(batch, -1, -1, -1)
    grid = labelled_grid([Column(f"Round {i}", "hair", images) for i in range(columns)])
    assert grid.shape[0] == 1
    assert max(grid.shape) <= LARGEST_GRID
    assert 0.0 <= float(grid.min()) <= float(grid.max()) <= 1.0


def test_every_picture_is_in_its_place() -> None:
    """Column c, row r of the grid shows the colour of that picture."""
    levels = torch.linspace(0.2, 1.0, 6).reshape(2, 3)  # [columns, rows]
    columns = [
        Column("x", "", levels[c][:, None, None, None].expand(3, 256, 256, 3).clone())
        for c in range(2)
    ]
    grid = labelled_grid(columns)[0]
    unit, gap = 16, 8
    for c in range(2):
        for row in range(3):
            y = 3 * unit + row * (256 + gap) + 128
            x = 2 * unit + c * (256 + gap) + 128
            assert float((grid[y, x] - levels[c, row]).abs().max()) < 1 / 200


def test_columns_must_match() -> None:
    with pytest.raises(ValueError, match="equally many"):
        labelled_grid([Column("a", "", pictures(1, 8, 8)), Column("b", "", pictures(2, 8, 8))])
    with pytest.raises(ValueError, match="equally many"):
        labelled_grid([])


def test_long_titles_do_not_break_the_grid() -> None:
    labelled_grid([Column("A very long title " * 9, "and a note " * 9, pictures(1, 8, 8))])
