"""The command line of the benchmark, and the processes that work through its cells."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from . import cells, records, tuning
from .cells import Cell, Protocol
from .large_sample import FOLDER, PICTURES, large_look
from .methods import METHODS, OURS
from .summary import final_records

RESULTS = Path(__file__).parent.parent / "results"
RAW = RESULTS / "learn_raw"
MAIN = (OURS, *tuning.RIVALS)
CALL, GRADIENT = 0.0062, 0.028
"""Seconds per image of a guided prediction, and of one with its gradient, two idle cores."""

STEPS = 16
HELD_OUT = 256


@dataclass(frozen=True)
class Job:
    """A cell and how it is run."""

    cell: Cell
    plan: Protocol
    raw: Path


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.what == "judge":
        return _train_judge()
    if options.what in MEASUREMENTS:
        return MEASUREMENTS[options.what](options.threads)
    if options.what == "report":
        from .report import write_report

        return write_report(RESULTS)
    jobs = _large_jobs(options) if options.what == "large" else _jobs(options)
    _print_plan(jobs, options)
    if options.what == "plan" or options.plan:
        return 0
    return _work(jobs, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py learn", description=__doc__)
    parser.add_argument(
        "what",
        choices=("plan", "tune", "final", "large", "report", "judge", *MEASUREMENTS),
    )
    parser.add_argument("--task", choices=tuple(cells.GAINS), action="append")
    parser.add_argument("--methods", default=",".join(MAIN))
    parser.add_argument("--rates", default=",".join(f"{r:g}" for r in cells.RATES))
    parser.add_argument("--batches", default="16")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds (at most 8)")
    parser.add_argument("--budget", type=int, help="training images per cell; large: look there")
    parser.add_argument(
        "--held-out", type=int, help=f"pictures per evaluation ({HELD_OUT}; large: {PICTURES})"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="torch threads per worker")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no cell after")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    parser.add_argument("--raw", type=Path, default=RAW, help="folder of the raw results")
    parser.add_argument("--no-compile", action="store_true", help="float32, without a C++ compiler")
    return parser


def _jobs(options: argparse.Namespace) -> list[Job]:
    """The missing cells, cheapest question first: seeds outside, methods inside."""
    jobs = []
    methods = _methods(options)
    for task in options.task or ("blue", "hair", "region", "single_image"):
        raw = options.raw / f"{task}.jsonl"
        done = records.read(raw)
        wanted = []
        batches = [int(b) for b in options.batches.split(",")]
        if task in cells.SAME_PICTURE:
            batches = [cells.SAME_PICTURE[task]]
        if options.what in ("plan", "tune"):
            rates = [float(r) for r in options.rates.split(",")]
            wanted += [
                (Cell(task, method, rate, batch, seed), True)
                for seed in cells.TUNING_SEEDS[: options.seeds]
                for batch in batches
                for rate in rates
                for method in methods
            ]
        if options.what in ("plan", "final"):
            chosen = tuning.chosen_settings(done)
            for seed in cells.FINAL_SEEDS[: options.seeds]:
                for method in methods:
                    setting = tuning.setting_for(chosen, task, method)
                    if setting is None and options.what == "final":
                        raise SystemExit(f"{task} {method} is not tuned: run `learn tune` first.")
                    rate, batch = (1e-3, batches[0]) if setting is None else setting
                    wanted.append((Cell(task, method, rate, batch, seed), False))
        for is_tuning in (True, False):
            budget = options.budget or (128 if is_tuning else 512)
            plan = cells.protocol(task, budget, options.held_out or HELD_OUT)
            ask = [cell for cell, kind in wanted if kind == is_tuning]
            jobs += [Job(cell, plan, raw) for cell in cells.missing(ask, done, plan)]
    return jobs


def _methods(options: argparse.Namespace) -> list[str]:
    methods: list[str] = options.methods.split(",")
    if unknown := sorted(set(methods) - set(METHODS)):
        raise SystemExit(f"Unknown methods {unknown}; there are {sorted(METHODS)}.")
    return methods


def _large_jobs(options: argparse.Namespace) -> list[Job]:
    """Final cells, to be looked at in many pictures where they reached their larger gain."""
    jobs = []
    methods = _methods(options)
    for task in options.task or ("blue", "hair"):
        known = records.read(options.raw / f"{task}.jsonl")
        finals = final_records(known, tuning.chosen_settings(known))
        raw = options.raw.with_name(FOLDER) / f"{task}.jsonl"
        done = records.read(raw)
        for method in methods:
            for record in finals.get((task, method), [])[: options.seeds]:
                plan = large_look(record, options.held_out or PICTURES, options.budget)
                if plan is not None:
                    wanted = [cells.key_of(record)]
                    # A look after more images says nothing of this one.
                    there = [r for r in done if r["protocol"]["budget"] == plan.budget]
                    jobs += [Job(cell, plan, raw) for cell in cells.missing(wanted, there, plan)]
    return jobs


def _print_plan(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    total = 0.0
    for job in jobs:
        config = METHODS[job.cell.method].config(job.cell.rate, job.cell.batch)
        seconds = cells.seconds_of(config, STEPS, job.plan, CALL, GRADIENT)
        total += seconds
        c = job.cell
        kind = "tune " if c.tuning else "final"
        print(
            f"{kind} {c.task} {c.method} rate {c.rate:g} batch {c.batch} seed {c.seed}: up to "
            f"{job.plan.budget} images, {len(job.plan.evaluations)} x {job.plan.held_out} held "
            f"out, {seconds:.0f} s"
        )
    print(f"{len(jobs)} cells, at most {total / 3600:.1f} h on two idle cores", flush=True)


def _work(jobs: Sequence[Job], options: argparse.Namespace) -> int:
    """Share the cells out among worker processes, in order, until done or out of time."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for job in jobs:
        queue.put(job)
    end = time.time() + options.seconds
    workers = [
        context.Process(
            target=_worker, args=(queue, end, options.threads, not options.no_compile, i)
        )
        for i in range(min(options.workers, max(1, len(jobs))))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max((worker.exitcode or 0 for worker in workers), default=0)


def _worker(queue: Any, end: float, threads: int, fast: bool, number: int) -> None:
    bench = _bench(threads, fast, number)
    while time.time() < end:
        try:
            job = queue.get(timeout=2.0)
        except Empty:
            return
        # Another process may have finished it since the plan was made.
        if cells.missing([job.cell], records.read(job.raw), job.plan):
            record = bench.run(job.cell, job.plan)
            records.append(job.raw, record)


def _bench(threads: int, fast: bool, number: int) -> Any:
    """Everything a worker needs, loaded once."""
    _use_comfyui()
    from demo.toy_faces.segmenter import load_segmenter

    from . import tasks
    from .judge import Judge
    from .reference import Reference
    from .trial import Bench
    from .world import Settings, ToyWorld

    judge = Judge.load()
    known = tasks.all_tasks(load_segmenter(), judge)

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} [{number}] {text}", flush=True)

    world = ToyWorld(Settings(steps=STEPS), fast, threads)
    return Bench(world, judge, Reference.load(), known, say)


def _use_comfyui() -> None:
    logging.disable(logging.WARNING)
    from demo.toy_faces.training.comfy_path import use_comfyui

    use_comfyui(os.environ.get("COMFYUI_PATH"))


def _train_judge() -> int:
    _use_comfyui()
    from demo.toy_faces.loader import load_vae

    from .judge import Judge
    from .judge_training import Config, train
    from .reference import make_reference

    figures = train(Config())
    make_reference(Judge.load(), load_vae().first_stage_model)
    return _keep("learn_judge.json", figures)


def _measure_precision(threads: int) -> int:
    _use_comfyui()
    from .precision import measure

    return _keep("learn_precision.json", measure(threads))


def _measure_agreement(threads: int) -> int:
    from .agreement import measure

    bench = _bench(threads, fast=False, number=0)
    return _keep("learn_agreement.json", measure(bench.world, bench.tasks("blue", "hair")))


def _measure_contradiction(threads: int) -> int:
    from .contradiction import measure

    bench = _bench(threads, fast=False, number=0)
    (task,) = bench.tasks("single_image")
    return _keep("learn_contradiction.json", measure(bench, task))


def _measure_foresight(threads: int) -> int:
    from .foresight import measure

    bench = _bench(threads, fast=True, number=0)
    tasks = bench.tasks("blue", "hair", "region", "alignment")
    return _keep("learn_foresight.json", measure(bench.world, tasks))


MEASUREMENTS = {
    "precision": _measure_precision,
    "agreement": _measure_agreement,
    "contradiction": _measure_contradiction,
    "foresight": _measure_foresight,
}
"""What is measured without any training, given a number of threads."""


def _keep(name: str, figures: dict[str, Any]) -> int:
    text = json.dumps(figures, indent=1, sort_keys=True) + "\n"
    (RESULTS / name).write_text(text, encoding="utf-8")
    print(json.dumps(figures))
    return 0
