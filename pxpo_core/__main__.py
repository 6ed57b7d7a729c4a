"""The library's command line: python -m pxpo_core train CONFIG."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger("pxpo_core")

INTERRUPTED = 130
PROCESS_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where launchers say how many processes they have started."""

ONE_PROCESS = (
    "accelerate launch was asked for several processes and has started one: with --cpu it needs "
    "mpirun. Without --cpu and with --multi_gpu it starts them all, on a machine without GPUs too: "
    "accelerate launch --multi_gpu --num_processes 2 -m pxpo_core train CONFIG"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m pxpo_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a LoRA as a configuration file says")
    train.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        return _train(options.config)
    except KeyboardInterrupt:
        logger.error("Stopped. Finished rounds are kept: the same command goes on after them.")
        return INTERRUPTED


def _train(path: Path) -> int:
    # Late, so that --help and a wrong configuration answer at once.
    from .training.config import ConfigError, read_config

    try:
        config = read_config(path)
    except ConfigError as error:
        logger.error("%s: %s", path, error)
        return 2
    if launched_as_one(os.environ):
        logger.error(ONE_PROCESS)
        return 2
    from .lora_file import LoRAFileError
    from .run import RunError
    from .update import NonFiniteUpdateError

    try:
        import diffusers.utils.logging
        import torch
        import transformers.utils.logging

        from .backends.diffusers.loading import PipelineError
        from .training.loop import NothingToLearnError, WorkersDisagreeError, train
        from .workers import SingleProcess, Workers
    except ImportError as error:
        logger.error('%s. Training needs the packages of the extra "library".', error)
        return 1
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    workers: Workers = SingleProcess()
    device = None
    if any(int(os.environ.get(name, "1")) > 1 for name in PROCESS_COUNTS):
        from .backends.accelerate_workers import AccelerateWorkers

        shared = AccelerateWorkers()
        workers, device = shared, shared.device
    logger.setLevel(logging.INFO if workers.rank == 0 else logging.ERROR)
    try:
        train(config, workers, device)
    except ConfigError as error:
        logger.error("%s: %s", path, error)
        return 2
    except (
        PipelineError, RunError, LoRAFileError, NothingToLearnError, NonFiniteUpdateError,
        WorkersDisagreeError,
    ) as error:  # fmt: skip
        logger.error("%s", error)
        return 1
    except torch.cuda.OutOfMemoryError as error:
        logger.error(
            "%s\nFinished rounds are kept. Lower [update] micro_batch, or set [model] "
            "gradient_checkpointing = true, and start again.",
            error,
        )
        return 1
    return 0


def launched_as_one(environment: Mapping[str, str]) -> bool:
    """Whether Accelerate prepared several processes (it names a master) but started one."""
    cpu = environment.get("ACCELERATE_USE_CPU", "").lower() == "true"
    started = any(name in environment for name in PROCESS_COUNTS)
    return cpu and "MASTER_ADDR" in environment and not started


if __name__ == "__main__":
    sys.exit(main())
