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
    kind = checkpoint_kind(path)
    options: dict[str, Any] = {"torch_dtype": DTYPES[precision], "local_files_only": True}
    try:
        if kind == "folder":
            return diffusers.DiffusionPipeline.from_pretrained(str(path), **options)
        # Without a folder diffusers would fetch one from the network, whatever it was told.
        if config is None or not (config / "model_index.json").is_file():
            raise PipelineError(
                f"{path} is a single file, so the model's config must name a folder with "
                f"model_index.json and the tokenizer of a pipeline of its kind; got {config}."
            )
        index = diffusers.DiffusionPipeline.load_config(str(config))
        pipeline = getattr(diffusers, str(index.get("_class_name")), None)
        if pipeline is None or not hasattr(pipeline, "from_single_file"):
            raise PipelineError(
                f"{config} describes a {index.get('_class_name')}, which single files cannot hold."
            )
        return pipeline.from_single_file(str(path), config=str(config), **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if isinstance(error, PipelineError):
            raise
        raise PipelineError(f"{path} cannot be loaded as a pipeline: {error}") from error


def checkpoint_kind(path: Path) -> Literal["folder", "file"]:
    """What `path` is; raises PipelineError when it is no pipeline at all."""
    if (path / "model_index.json").is_file():
        return "folder"
    if path.is_file() and path.suffix in (".safetensors", ".ckpt"):
        return "file"
    raise PipelineError(
        f"{path} is neither a pipeline folder (with model_index.json) nor a .safetensors file."
    )
