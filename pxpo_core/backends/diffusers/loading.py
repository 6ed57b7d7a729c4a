"""Pipelines from local files only: nothing is ever downloaded."""

from pathlib import Path
from typing import Any, Literal

import diffusers
import torch

Precision = Literal["float32", "bfloat16", "float16"]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class PipelineError(ValueError):
    """The pipeline cannot be loaded, or is of a kind PXPO cannot train."""


def load_pipeline(
    path: Path, config: Path | None = None, precision: Precision = "float32"
) -> diffusers.DiffusionPipeline:
    """A pipeline from a folder (`save_pretrained`) or from a single checkpoint file.

    config: for a single file, a folder with the configuration and tokenizer of a pipeline of its
    kind (a `save_pretrained` folder; its weights are not read). Raises PipelineError.
    """
    options: dict[str, Any] = {"dtype": DTYPES[precision], "local_files_only": True}
    if checkpoint_kind(path) == "file":
        kind = _kind_of(path, config)
        options["config"] = str(config)
        load = kind.from_single_file
    else:
        load = diffusers.DiffusionPipeline.from_pretrained
    try:
        pipeline = load(str(path), **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise PipelineError(f"{path} cannot be loaded as a pipeline: {error}") from error
    vae = getattr(pipeline, "vae", None)
    if vae is not None and vae.dtype != torch.float32:
        vae.to(torch.float32)  # SDXL's overflows in half precision
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _kind_of(path: Path, config: Path | None) -> Any:
    """The pipeline class whose configuration the folder `config` holds."""
    # Without a folder diffusers would fetch one from the network, whatever it was told.
    if config is None or not (config / "model_index.json").is_file():
        raise PipelineError(
            f"{path} is a single file, so [model] config must name a folder with the "
            f"configuration and tokenizer of a pipeline of its kind; got {config}."
        )
    name = str(diffusers.DiffusionPipeline.load_config(str(config)).get("_class_name"))
    kind = getattr(diffusers, name, None)
    if not hasattr(kind, "from_single_file"):
        raise PipelineError(f"{config} describes a {name}, which single files cannot hold.")
    return kind


def checkpoint_kind(path: Path) -> Literal["folder", "file"]:
    """What `path` is; raises PipelineError when it is no pipeline at all."""
    if (path / "model_index.json").is_file():
        return "folder"
    if path.is_file() and path.suffix == ".safetensors":
        return "file"
    raise PipelineError(
        f"{path} is neither a pipeline folder (with model_index.json) nor a .safetensors file."
    )
