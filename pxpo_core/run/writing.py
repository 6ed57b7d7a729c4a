"""Writing a round: into a temporary folder, onto the disk, and into place by one rename."""

import logging
import os
import uuid
from datetime import datetime, timezone
from pathlib import Path

import torch

from ..reward import check_finite, resize_mask, shrunk_size
from . import files
from .errors import RunDamagedError, RunWriteError
from .loading import layers_problem
from .manifest import MANIFEST_NAME, ROUND_NAME, FileEntry, Manifest, RoundInfo
from .reading import (
    LORA_NAME,
    MAX_ROUNDS,
    MEMORY_NAME,
    METRICS_NAME,
    OPTIMIZER_NAME,
    SETTINGS_NAME,
    STATE_NAME,
    remove_temporary,
    round_folder,
)
from .records import RoundRecord

logger = logging.getLogger(__name__)

PICTURE_SIZE = 128


def check_record(record: RoundRecord) -> None:
    """Everything that can be refused before a lock is taken; raises RunWriteError."""
    maps, pictures = record.reward_maps, record.thumbnails
    if maps.ndim != 3 or maps.numel() == 0:
        raise RunWriteError(f"Reward maps must be [images, height, width]: {list(maps.shape)}.")
    check_finite(maps, "reward map")
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != torch.uint8:
        raise RunWriteError(
            f"Thumbnails must be uint8 [images, height, width, 3]: {list(pictures.shape)}."
        )
    problem = layers_problem(record.policy.config, record.policy.tensors)
    if problem:
        raise RunWriteError(f"The LoRA {problem}; nothing was written.")


def start_run(folder: Path, name: str, old: Manifest | None, record: RoundRecord) -> Manifest:
    """Write the manifest of a run without rounds; one that lost them all keeps its uuid.

    The run's lock is held.
    """
    manifest = Manifest(
        uuid=uuid.uuid4().hex if old is None else old.uuid,
        name=name,
        base=record.base,
        lora=record.policy.config.to_dict(),
        created=now(),
    )
    temporary = folder / f".tmp-{uuid.uuid4().hex}"
    data = files.json_bytes(manifest.to_dict(), MANIFEST_NAME)
    files.replace_durably(folder / MANIFEST_NAME, temporary, data)
    return manifest


def add_round(
    folder: Path, manifest: Manifest, newest: RoundInfo | None, record: RoundRecord
) -> RoundInfo:
    """Write the next round into a temporary folder and rename it into place.

    The run's lock is held. Raises RunWriteError, RunDamagedError or OSError; then nothing is left.
    """
    number = 1 if newest is None else newest.round + 1
    if number > MAX_ROUNDS:
        raise RunWriteError(f"A run holds at most {MAX_ROUNDS} rounds. Start a new run name.")
    scale = float(record.reward_maps.abs().max())
    contents = _contents(record, manifest, number, scale)
    files.check_free_space(folder, sum(len(data) for data in contents.values()))
    info = RoundInfo(
        id=uuid.uuid4().hex,
        run=manifest.uuid,
        round=number,
        previous=None if newest is None else newest.id,
        policy=record.policy.digest,
        created=now(),
        reward_scale=scale,
        files={file: FileEntry(len(data), files.sha256(data)) for file, data in contents.items()},
    )
    target = round_folder(folder, number)
    temporary = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        for file, data in contents.items():
            files.write_durably(temporary / file, data)
        # Last: a folder without it is not a round.
        description = files.json_bytes(info.to_dict(), ROUND_NAME)
        files.write_durably(temporary / ROUND_NAME, description)
        files.sync_folder(temporary)
        if os.path.lexists(target):  # rename would replace an empty folder
            raise RunDamagedError(f"{target} is in the way. Move it away and press Run again.")
        os.rename(temporary, target)
    except BaseException:
        remove_temporary(temporary)
        raise
    try:
        files.sync_folder(folder)
    except OSError as error:  # the round is there; only its safety from a power cut is not known
        logger.warning("Round %d of run %s may be lost in a power cut: %s", number, folder, error)
    return info


def _contents(
    record: RoundRecord, manifest: Manifest, number: int, scale: float
) -> dict[str, bytes]:
    """File name -> bytes for everything in a round but round.json."""
    metadata = {"format": "pt", "pxpo_run": manifest.uuid, "pxpo_round": str(number)}
    contents = {
        LORA_NAME: files.tensor_bytes(record.policy.state_dict(), "The LoRA", metadata),
        OPTIMIZER_NAME: files.tensor_bytes(record.optimizer, "The optimizer", metadata),
        STATE_NAME: files.json_bytes(dict(record.state), "state"),
        METRICS_NAME: files.json_bytes(dict(record.metrics), "metrics"),
        SETTINGS_NAME: files.json_bytes(dict(record.settings), "settings"),
    }
    if record.memory:
        contents[MEMORY_NAME] = files.tensor_bytes(
            record.memory, "What the run remembers", metadata
        )
    _, height, width = record.reward_maps.shape
    size = shrunk_size(height, width, PICTURE_SIZE)
    for i, reward_map in enumerate(resize_mask(record.reward_maps.float().cpu(), size)):
        contents[f"reward_{i:02d}.png"] = files.reward_png(reward_map, scale)
    for i, picture in enumerate(record.thumbnails):
        contents[f"thumb_{i:02d}.jpg"] = files.thumbnail_jpeg(picture)
    return contents


def now() -> str:
    """The time, as the documents of a run write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
