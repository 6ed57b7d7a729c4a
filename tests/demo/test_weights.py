"""The committed weights: small, complete, and refused when damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from demo.toy_faces.generator import PARTS, draw, portrait
from demo.toy_faces.segmenter import Segmenter, load_segmenter, part_mask, segment
from demo.toy_faces.training.vae_stage import mean_absolute_error
from demo.toy_faces.vae import ToyVAE
from demo.toy_faces.weights_io import (
    METADATA_FILE,
    SEGMENTER_FILE,
    VAE_FILE,
    WEIGHT_FILES,
    WEIGHTS_DIR,
    DamagedWeightsError,
    load_weights,
    save_weights,
)


def test_weights_fit_into_twelve_megabytes() -> None:
    assert sum((WEIGHTS_DIR / name).stat().st_size for name in WEIGHT_FILES) <= 12_000_000


def test_metadata_describes_the_files() -> None:
    facts = json.loads((WEIGHTS_DIR / METADATA_FILE).read_text(encoding="utf-8"))
    assert facts["bytes"] == {n: (WEIGHTS_DIR / n).stat().st_size for n in WEIGHT_FILES}


def test_round_trip_keeps_facts_and_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, again = ToyVAE(), ToyVAE()
    save_weights(tmp_path / "vae.safetensors", vae, {"answer": [1, 2]})
    assert load_weights(tmp_path / "vae.safetensors", again) == {"answer": [1, 2]}
    for a, b in zip(vae.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a.half(), b.half())
    assert [p.name for p in tmp_path.iterdir()] == ["vae.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "other"])
def test_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / SEGMENTER_FILE
    data = (WEIGHTS_DIR / SEGMENTER_FILE).read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        shutil.copy(WEIGHTS_DIR / VAE_FILE, path)
    with pytest.raises(DamagedWeightsError, match="Toy Faces weights are damaged") as caught:
        load_weights(path, Segmenter())
    assert str(path) in str(caught.value)
    assert "reinstall the extension" in str(caught.value)


def test_autoencoder_error_on_unseen_portraits() -> None:
    vae = ToyVAE().eval()
    load_weights(WEIGHTS_DIR / VAE_FILE, vae)
    images = torch.stack([torch.from_numpy(portrait(seed).image.copy()) for seed in range(4)])
    assert mean_absolute_error(vae, images) < 0.03


def test_segmenter_finds_hair() -> None:
    model = load_segmenter()
    drawn = [portrait(seed) for seed in range(6)]
    images = torch.stack([torch.from_numpy(p.image.copy()) for p in drawn]).float() / 255
    truth = torch.stack([torch.from_numpy(p.labels.copy()) for p in drawn]).long()
    hair = PARTS.index("hair")
    guess = segment(model, images)
    iou = ((guess == hair) & (truth == hair)).sum() / ((guess == hair) | (truth == hair)).sum()
    assert iou > 0.85
    assert torch.equal(part_mask(model, images), (guess == hair).float())


def test_segmenter_takes_other_sizes_and_refuses_other_parts() -> None:
    model = load_segmenter()
    image, _ = draw(portrait(0).attributes)
    picture = torch.from_numpy(image.copy())[None, ::2, ::2].float() / 255
    assert segment(model, picture).shape == (1, 128, 128)
    with pytest.raises(ValueError, match="unknown part 'beard'"):
        part_mask(model, picture, "beard")
