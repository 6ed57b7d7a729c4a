"""Reading a LoRA file back into a Policy; everything in the file is suspect until checked."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch

from ..lora import Policy
from .errors import LoRAFileError
from .spellings import Place, is_text_encoder
from .tensors import Shapes, check_keys, policy_from_tensors
from .unet_names import UNetNames

MAX_FILE_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class LoadedLoRA:
    """A file's LoRA and its metadata (text, not to be trusted).

    text_encoder: how many tensors for the text encoder the file has besides; they are not read.
    """

    policy: Policy
    metadata: Mapping[str, str] = field(default_factory=dict)
    text_encoder: int = 0


def read_lora(
    path: Path,
    shapes: Shapes,
    names: UNetNames | None,
    folder: Path | None = None,
    also: Mapping[str, Place] | None = None,
) -> LoadedLoRA:
    """Read a LoRA made for a model.

    shapes: weight shape (out, in, ...) of each layer of the model a LoRA may have. names: of its
    UNet, or None. folder: the file must lie in it, after links are followed. also: further names of
    this architecture's layers. Reads kohya, diffusion_model.*, diffusers and PEFT keys, of any
    float type, with ranks and alphas that differ per layer. Raises LoRAFileError; files are never
    changed.
    """
    with _opened(path, folder) as file:
        metadata = _text(file.metadata())
        found = list(file.keys())
        keys = [key for key in found if not is_text_encoder(key)] or found
        check_keys(keys, shapes, names, also)
        with torch.inference_mode(False):
            # clone: the file may change on the disk later
            tensors = {key: file.get_tensor(key).clone() for key in keys}
    with torch.inference_mode(False):
        policy = policy_from_tensors(tensors, shapes, names, metadata, also)
    return LoadedLoRA(policy, metadata, len(found) - len(keys))


def read_metadata(path: Path) -> Mapping[str, str]:
    """The metadata of a safetensors file; reads no tensors. Raises LoRAFileError."""
    with _opened(path, None) as file:
        return _text(file.metadata())


@contextmanager
def _opened(path: Path, folder: Path | None) -> Iterator[Any]:
    """The safetensors file, once it is known to be a plain file of a sane size in its folder."""
    if "\0" in str(path):
        raise LoRAFileError(f"{str(path)!r:.200} is no file name.")
    real = Path(os.path.realpath(path))
    if folder is not None and not real.is_relative_to(os.path.realpath(folder)):
        raise LoRAFileError(f"{path} leads out of {folder}. Copy the file there instead.")
    try:
        info = os.stat(real)
    except (OSError, ValueError):
        raise LoRAFileError(f"{path} does not exist, or cannot be read.") from None
    if not stat.S_ISREG(info.st_mode) or real.suffix.lower() != ".safetensors":
        raise LoRAFileError(f"{path} is not a .safetensors file.")
    if info.st_size > MAX_FILE_BYTES:
        raise LoRAFileError(f"{path} is too large for a LoRA ({info.st_size / 1e9:.1f} GB).")
    try:
        with safetensors.safe_open(real, framework="pt", device="cpu") as file:
            yield file
    except LoRAFileError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LoRAFileError(
            f"{path} is not a readable safetensors file: it is damaged or incomplete ({reason})."
        ) from None


def _text(metadata: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in (metadata or {}).items()}
