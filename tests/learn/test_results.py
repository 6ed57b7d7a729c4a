"""Cells, raw records, tuning and learn.json: what was measured becomes the right claims."""

from __future__ import annotations

import json
import math
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.learn import agreement, command, records, report, tables
from benchmarks.learn.cells import Cell, Protocol, missing, protocol, seconds_of
from benchmarks.learn.large_sample import compared, large_look
from benchmarks.learn.plots import plots
from benchmarks.learn.statistics import (
    geometric_mean_ratio,
    images_to_gain,
    ratio_of_means,
    value_at_gain,
    with_budget,
)
from benchmarks.learn.summary import summarize
from benchmarks.learn.tuning import at_an_edge, chosen_settings, gain_kept, setting_for
from pxpo_core.update_config import UpdateConfig

RESULTS = report.REPO / "benchmarks" / "results"


def evaluation(images: int, gain: float, frechet: float = 1.0, valid: float = 1.0) -> dict:
    return {
        "images": images,
        "n": 64,
        "gain": gain,
        "frechet": frechet,
        "valid": valid,
        "detail": 0.1,
        "diversity": 2.0,
        "change_inside": 0.2,
        "change_outside": None,
        "prompts": {"mouth": 0.9 - gain},
    }


def record(
    method: str = "default", rate: float = 1e-3, seed: int = 0, curve: Any = (), **more: Any
) -> dict[str, Any]:
    return {
        "task": "blue",
        "method": method,
        "rate": rate,
        "batch": 16,
        "seed": seed,
        "protocol": {"budget": 128, "evaluations": [64, 128], "held_out": 64},
        "evaluations": [evaluation(0, 0.0), *curve],
        "rounds": [],
        "stopped": "budget",
        **more,
    }


def test_a_gain_must_be_confirmed_by_the_next_evaluation() -> None:
    curve = [(0, 0.0), (32, 0.05), (64, 0.03), (96, 0.05), (128, 0.06)]
    assert images_to_gain(curve, 0.04) == 96
    assert images_to_gain(curve, 0.06) is None
    assert images_to_gain(curve[:2], 0.04) is None


def test_quality_counts_where_the_gain_is_reached_and_not_where_it_is_confirmed() -> None:
    curve = [(0, 0.0), (32, 0.05), (64, 0.06), (96, 0.07)]
    assert images_to_gain(curve, 0.04, [True, True, False, False]) == 32
    assert images_to_gain(curve, 0.04, [True, False, True, False]) == 64
    assert images_to_gain(curve, 0.04, [True, False, False, True]) is None


def test_realism_is_compared_where_a_gain_is_reached() -> None:
    assert value_at_gain([0.0, 0.05, 0.15], [1.0, 1.2, 1.4], 0.10) == pytest.approx(1.3)
    assert value_at_gain([0.0, 0.05], [1.0, 1.2], 0.10) is None
    assert value_at_gain([0.0, 0.2], [None, None], 0.10) is None
    ours, theirs = (
        [
            record(method, seed=s, curve=[evaluation(8, 0.2, frechet=f + s)])
            for s in (0, 1, 2)[:count]
        ]
        for method, f, count in (("default", 1.2, 2), ("ddpo", 1.6, 3))
    )
    front = summarize([*ours, *theirs])["blue"]["front"]
    assert front["default"]["0.10"]["realism"][0] == pytest.approx(1.35)
    assert front["ddpo"]["0.10"]["above_default"][0] == pytest.approx(0.2)
    assert (front["ddpo"]["0.10"]["seeds"], front["ddpo"]["0.10"]["pairs"]) == ([0, 1, 2], 2)


def test_never_counts_as_one_more_than_was_tried() -> None:
    assert with_budget([96, None], [128, 512]) == [96, 513]


def test_ratio_of_paired_seeds_has_a_narrow_interval_and_a_wide_one_unpaired() -> None:
    ours = [32.0, 64.0, 128.0, 256.0, 512.0]
    theirs = [2.0 * value for value in ours]
    mean, low, high = geometric_mean_ratio(theirs, ours, paired=True)
    assert (mean, low, high) == pytest.approx((2.0, 2.0, 2.0))
    mean, low, high = geometric_mean_ratio(theirs, ours, paired=False)
    assert mean == pytest.approx(2.0)
    assert low < 1.0 < 2.5 < high


@pytest.mark.parametrize(("a", "b"), [([], [1.0]), ([1.0, 2.0], [1.0]), ([0.0], [1.0])])
def test_ratio_refuses_what_it_cannot_compare(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"ratio|Ratio|paired"):
        geometric_mean_ratio(a, b, paired=True)


def test_finished_cells_are_not_run_again_except_with_more_pictures() -> None:
    cell = Cell("blue", "default", 1e-3, 16, 0)
    other = Cell("blue", "default", 3e-3, 16, 0)
    plan = Protocol(128, (64, 128), 64)
    assert missing([cell, other], [record()], plan) == [other]
    assert missing([cell], [record()], replace(plan, held_out=256)) == [cell]
    assert missing([cell], [record()], replace(plan, held_out=32)) == []


def test_an_unfinished_race_is_run_again_with_a_larger_budget_and_a_won_one_is_not() -> None:
    cell, plan = Cell("blue", "default", 1e-3, 16, 0), Protocol(512, (64, 512), 64)
    assert missing([cell], [record()], plan) == [cell]
    assert missing([cell], [record(stopped="confirmed")], plan) == []


def test_every_evaluation_lies_within_the_budget_and_the_last_is_at_it() -> None:
    for budget in (64, 128, 160, 512, 5120):
        times = protocol("blue", budget, 64).evaluations
        assert list(times) == sorted(set(times))
        assert times[-1] == budget


def test_one_picture_is_looked_at_in_few_branches_after_every_second_round() -> None:
    assert protocol("single_image", 512, 256) == Protocol(40, (8, 16, 24, 32, 40), 16)
    assert protocol("single_image_one", 512, 256) == Protocol(10, (2, 4, 6, 8, 10), 16)


def test_cost_grows_with_trained_steps_and_optimizer_steps() -> None:
    plan = Protocol(128, (64, 128), 64)
    few, all_, twice = (
        seconds_of(UpdateConfig(train_steps=k, steps_per_rollout=n), 16, plan, 0.01, 0.03)
        for k, n in ((4, 1), (1000, 1), (4, 2))
    )
    assert few == pytest.approx(256 * 16 * 0.01 + 128 * 4 * 0.03)
    assert all_ - few == pytest.approx(128 * 11 * 0.03)
    assert twice - few == pytest.approx(128 * 4 * 0.03)


def test_records_survive_a_torn_line_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "blue.jsonl"
    assert records.read(path) == []
    records.append(path, {"gain": float("nan"), "curve": (1.0, math.inf)})
    with path.open("a") as file:
        file.write('{"task": "bl')
    records.append(path, {"gain": 1 / 3})
    assert records.read(path) == [{"gain": None, "curve": [1.0, None]}, {"gain": 0.333333}]


def _append_many(path: Path, number: int) -> None:
    for i in range(50):
        records.append(path, {"writer": number, "i": i, "padding": "x" * 5000})


def test_two_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "blue.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, n)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = records.read(path)
    assert sorted((r["writer"], r["i"]) for r in found) == [
        (n, i) for n in (0, 1) for i in range(50)
    ]


def test_a_gain_at_lost_quality_does_not_choose_a_rate() -> None:
    gentle = record(rate=1e-3, seed=1000, curve=[evaluation(128, 0.10, frechet=1.2)])
    wild = record(rate=1e-2, seed=1000, curve=[evaluation(128, 0.40, frechet=3.0)])
    faceless = record(rate=3e-3, seed=1000, curve=[evaluation(128, 0.30, valid=0.5)])
    assert [gain_kept(r) for r in (gentle, wild, faceless)] == [0.10, 0.0, 0.0]
    assert chosen_settings([wild, gentle, faceless]) == {("blue", "default"): (1e-3, 16)}


def test_the_fastest_setting_wins_and_never_loses_to_a_larger_gain_later() -> None:
    fast = record(rate=3e-3, seed=1000, curve=[evaluation(n, 0.12) for n in (32, 64)])
    slow = record(
        rate=1e-3, seed=1000, curve=[evaluation(n, g) for n, g in ((32, 0.0), (64, 0.2), (96, 0.2))]
    )
    ruined = record(rate=1e-2, seed=1000, curve=[evaluation(n, 0.5, frechet=2.0) for n in (8, 16)])
    assert chosen_settings([slow, ruined, fast]) == {("blue", "default"): (3e-3, 16)}


def test_final_seeds_never_choose_a_rate() -> None:
    final = record(rate=3e-3, seed=0, curve=[evaluation(128, 0.3)])
    tuned = record(rate=1e-3, seed=1000, curve=[evaluation(128, 0.1)])
    assert chosen_settings([final, tuned]) == {("blue", "default"): (1e-3, 16)}


def test_a_setting_tried_on_fewer_seeds_does_not_compete() -> None:
    lucky = record(rate=3e-3, seed=1000, curve=[evaluation(128, 0.3)])
    solid = [record(rate=1e-3, seed=s, curve=[evaluation(128, 0.1)]) for s in (1000, 1001)]
    assert chosen_settings([lucky, *solid])["blue", "default"] == (1e-3, 16)


def test_ablations_run_with_the_setting_of_what_they_change_and_rivals_with_their_own() -> None:
    chosen = {("blue", "default"): (1e-3, 16)}
    assert setting_for(chosen, "blue", "radius_4") == (1e-3, 16)
    assert setting_for(chosen, "blue", "whole_path") == (1e-3, 16)
    assert setting_for({**chosen, ("blue", "path"): (3e-3, 8)}, "blue", "whole_path") == (3e-3, 8)
    assert setting_for(chosen, "blue", "ddpo") is None
    assert setting_for({}, "blue", "radius_4") is None
    painted = {("single_image", "default"): (3e-3, 4)}
    assert setting_for(painted, "single_image_like", "default") == (3e-3, 4)


def test_an_optimum_at_the_edge_of_the_grid_is_noticed() -> None:
    assert at_an_edge(1e-4, [1e-4, 1e-3, 1e-2])
    assert not at_an_edge(1e-3, [1e-4, 1e-3, 1e-2])


def finals(method: str, reached_at: dict[int, int]) -> list[dict[str, Any]]:
    """One record per seed whose gain jumps to 0.12 at the given number of images."""
    return [
        record(
            method,
            seed=seed,
            curve=[evaluation(n, 0.12 if n >= at else 0.01) for n in (32, 64, 96, 128)],
        )
        for seed, at in reached_at.items()
    ]


def test_summary_counts_images_pairs_seeds_and_leaves_tuning_out() -> None:
    tuning = record(rate=1e-3, seed=1000, curve=[evaluation(128, 0.3)])
    table = summarize(
        [tuning, *finals("default", {0: 32, 1: 64}), *finals("ddpo", {1: 96, 0: 999})]
    )["blue"]
    assert table["default"]["seeds"] == [0, 1]
    assert table["default"]["images_to_gain"] == {"0.04": [32, 64], "0.10": [32, 64]}
    assert table["ddpo"]["images_to_gain"]["0.10"] == [None, 96]
    ratio = table["ratios"]["ddpo / default"]["0.10, held quality"]
    assert ratio["ratio"] == pytest.approx(math.sqrt(129 / 32 * 96 / 64), abs=1e-3)
    assert table["default"]["locality"] == [None, None]


def test_a_change_of_another_method_is_compared_with_that_one_too() -> None:
    ours, path, changed = {0: 32, 1: 32}, {0: 64, 1: 32}, {0: 128, 1: 64, 2: 32}
    table = summarize(
        [*finals("default", ours), *finals("path", path), *finals("weights_exact", changed)]
    )["blue"]
    found = {name: gains["0.10, any quality"]["ratio"] for name, gains in table["ratios"].items()}
    assert found == {
        "path / default": pytest.approx(2**0.5, abs=1e-3),
        "weights_exact / default": pytest.approx((129 / 32 * 2) ** 0.5, abs=1e-3),
        "weights_exact / path": pytest.approx((129 / 64 * 2) ** 0.5, abs=1e-3),
    }
    alone = [*finals("path", path), *finals("weights_exact", {2: 32})]
    assert summarize(alone)["blue"]["ratios"] == {}


def test_summary_does_not_count_a_gain_without_faces() -> None:
    broken = record(curve=[evaluation(n, 0.2, valid=0.3) for n in (32, 64)])
    entry = summarize([broken])["blue"]["default"]
    assert entry["images_to_gain"]["0.10"] == [None]
    assert entry["images_to_gain_at_any_quality"]["0.10"] == [32]


def test_a_cell_run_with_more_held_out_pictures_replaces_the_quick_one() -> None:
    quick = record(curve=[evaluation(32, 0.2), evaluation(64, 0.2)])
    exact = record(curve=[evaluation(32, 0.0), evaluation(64, 0.1)])
    exact["protocol"] = {**exact["protocol"], "held_out": 256}
    for order in ([quick, exact], [exact, quick]):
        entry = summarize(order)["blue"]["default"]
        assert entry["held_out"] == [256]
        assert entry["gain"] == [0.1]


def test_the_tuned_setting_counts_even_with_fewer_seeds() -> None:
    tuned = record(rate=3e-3, seed=1000, curve=[evaluation(64, 0.3)])
    others = [record(rate=1e-3, seed=seed, curve=[evaluation(64, 0.1)]) for seed in (0, 1)]
    own = record(rate=3e-3, seed=0, curve=[evaluation(64, 0.2)])
    entry = summarize([tuned, *others, own])["blue"]["default"]
    assert (entry["learning_rate"], entry["seeds"]) == (3e-3, [0])
    assert summarize([tuned, *others])["blue"]["default"]["learning_rate"] == 1e-3


def test_directions_are_compared_beneath_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    signal, other = torch.randn((2, 20_000), generator=generator)
    turned = (signal + other) / 2**0.5

    def batches(true: torch.Tensor) -> list[torch.Tensor]:
        return [true + torch.randn(20_000, generator=generator) for _ in range(6)]

    a, b = batches(signal), batches(turned)
    assert agreement.agreement(a) == pytest.approx(0.5, abs=0.03)
    found = agreement.direction(a, b, agreement.agreement(a), agreement.agreement(b))
    assert found == pytest.approx(0.5**0.5, abs=0.03)
    assert math.isnan(agreement.direction(a, b, -0.01, 0.5))
    table = {"cosines": {"blue": {"x": {"denoised": 0.5}}}}
    table["directions"] = {"blue": {"x": {"denoised": None}}}
    assert "| blue | x | - | - | 0.50 | - |" in tables.agreement_table(table)


def test_noise_is_compared_after_equally_many_images() -> None:
    clean = record(curve=[evaluation(32, 0.1), evaluation(64, 0.2)], stopped="confirmed")
    noisy = [evaluation(32, 0.04), evaluation(64, 0.05), evaluation(128, 0.3)]
    summary = summarize([clean, record("flip_25", curve=noisy)])
    found = summary["blue"]["noise"]["flip_25"]
    assert (found["images"], found["clean_gain"], found["gain"]) == ([64], [0.2], [0.05])
    assert found["kept"][0] == pytest.approx(0.25)
    made = plots(summary)
    assert ">flip<" in made["learn_blue_noise.svg"]
    assert "learn_blue_anchor.svg" not in made
    assert "25 % (25 to 25)" in tables.noise_table("blue", summary["blue"])
    assert summarize([clean])["blue"]["noise"] == {}


def test_many_pictures_are_looked_at_where_the_larger_gain_was_first_seen() -> None:
    few = record(
        curve=[evaluation(n, g, frechet=1.2) for n, g in ((8, 0.05), (16, 0.1), (20, 0.2))]
    )
    plan = large_look(few)
    assert plan == Protocol(16, (16,), 2048)
    lost = record(curve=[evaluation(16, 0.1), evaluation(20, 0.09)])
    assert large_look(lost) is None
    assert large_look(lost, 512, 20) == Protocol(20, (20,), 512)
    assert large_look(lost, 512, 24) is None
    many = record(curve=[evaluation(16, 0.11, frechet=1.5)], protocol=plan.to_dict())
    many["evaluations"] = [{**seen, "n": 2048} for seen in many["evaluations"]]
    (row,) = compared([few], [many])
    assert (row["images"], row["few"]["realism"], row["many"]["realism"]) == (16, 1.2, 1.5)
    assert (row["few"]["pictures"], row["many"]["pictures"]) == (64, 2048)
    assert row["many"]["prompts"] == {"mouth": pytest.approx(-0.11)}
    assert "| 64, 2048 |" in tables.large_table("blue", {"large": [row]})
    assert "| mouth -11.0 |" in tables.large_table("blue", {"large": [row]})
    assert compared([record("ddpo")], [many]) == []


def test_a_look_after_more_images_does_not_stand_for_an_earlier_one(tmp_path: Path) -> None:
    raw = tmp_path / "learn_raw"
    records.append(raw / "blue.jsonl", record(curve=[evaluation(n, 0.12) for n in (16, 20)]))
    asked = ["large", "--task", "blue", "--methods", "default", "--raw", str(raw)]
    options = command._parser().parse_args(asked)
    (job,) = command._large_jobs(options)
    assert job.plan == Protocol(16, (16,), 2048)
    for images, left in ((20, 1), (16, 0)):
        protocol = Protocol(images, (images,), 2048).to_dict()
        records.append(job.raw, record(curve=[evaluation(images, 0.1)], protocol=protocol))
        assert len(command._large_jobs(options)) == left


def test_ratio_of_means_keeps_pairs_together() -> None:
    clean = [0.1, 0.4, 0.2, 0.9]
    assert ratio_of_means([0.5 * g for g in clean], clean) == pytest.approx((0.5, 0.5, 0.5))
    mean, low, high = ratio_of_means([0.1, -0.1, 0.05, -0.05], clean)
    assert low < mean < high
    assert low < 0.0 < high


def test_anchor_plot_needs_a_sweep_with_an_outside() -> None:
    records_ = [
        *finals("default", {0: 32}),
        *finals("anchor_unmarked_0.1", {0: 64}),
        *finals("anchor_unmarked_0.3", {0: 96}),
    ]
    for one in records_:
        for seen in one["evaluations"]:
            seen["change_outside"] = 0.1
    assert "learn_blue_anchor.svg" in plots(summarize(records_))


def test_only_what_is_raced_has_curves_and_five_seeds_have_a_ratio() -> None:
    five = dict.fromkeys(range(5), 64)
    records_ = [
        *finals("default", five),
        *finals("radius_4", five),
        *finals("radius_1", {0: 64}),
        *finals("flip_25", five),
    ]
    made = plots(summarize(records_))
    assert ">default (5)<" in made["learn_blue.svg"]
    assert "radius" not in made["learn_blue.svg"]
    assert ">radius_4 / default<" in made["learn_blue_ratios.svg"]
    assert "radius_1" not in made["learn_blue_ratios.svg"]
    assert "flip" not in made["learn_blue_ratios.svg"]
    assert "learn_blue_ratios.svg" not in plots(summarize(finals("default", five)))


def test_a_change_is_shown_and_compared_at_the_setting_of_what_it_changes() -> None:
    tuning = record(rate=3e-3, seed=1000, curve=[evaluation(128, 0.3)])
    default = [{**one, "rate": 3e-3} for one in finals("default", {0: 32, 1: 32})]
    elsewhere = finals("radius_4", {0: 64, 1: 64, 2: 64})
    table = summarize([tuning, *default, *elsewhere])["blue"]
    assert "radius_4 / default" not in table["ratios"]
    there = {**elsewhere[0], "rate": 3e-3}
    table = summarize([tuning, *default, *elsewhere, there])["blue"]
    assert (table["radius_4"]["learning_rate"], table["radius_4"]["seeds"]) == (3e-3, [0])
    assert table["ratios"]["radius_4 / default"]["0.10, any quality"]["ratio"] == 2.0
    tuned = record("radius_4", rate=1e-3, seed=1000, curve=[evaluation(128, 0.3)])
    table = summarize([tuning, tuned, *default, *elsewhere])["blue"]
    assert table["ratios"]["radius_4 / default"]["0.10, any quality"]["ratio"] == 2.0


def test_tables_have_a_cell_under_every_heading() -> None:
    records_ = [record(rate=1e-3, seed=1000, curve=[evaluation(64, 0.3)])]
    for method, images in (("default", 32), ("ddpo", 64), ("flip_25", 64)):
        records_ += finals(method, {0: images})
    table = summarize(records_, finals("default", {0: 32}))["blue"]
    for make in tables.TABLES.values():
        rows = make("blue", table).splitlines()
        assert len(rows) > 2
        assert len({row.count("|") for row in rows}) == 1
        assert make("blue", {}).startswith("No ")


def test_learn_json_plots_and_docs_are_what_the_raw_records_say() -> None:
    summary = report.summary_of(RESULTS)
    assert (RESULTS / "learn.json").read_text(encoding="utf-8") == report.to_json(summary)
    assert json.loads(report.to_json(summary)) == json.loads(json.dumps(summary))
    for name, svg in plots(summary).items():
        assert (RESULTS / name).read_text(encoding="utf-8") == svg
    for page in report.DOCS:
        text = page.read_text(encoding="utf-8")
        assert report.with_tables(text, summary, report.read_agreement(RESULTS)) == text
