"""Writing a LoRA file: finite numbers only, complete or not at all, and never over another file."""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..lora import Policy
from ..run.errors import RunWriteError
from ..run.files import check_free_space, sync_folder, write_durably
from .errors import LoRAFileError
from .keys import ALPHA, KeyFormat, file_tensors
from .metadata import DTYPE_KEY, FORMAT_KEY, POLICY_KEY, LoRAInfo, dtype_name, file_metadata
from .read import read_metadata
from .unet_names import UNetNames

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SUFFIX = ".safetensors"
MAX_COPIES = 999


@dataclass(frozen=True, slots=True)
class SavedLoRA:
    """new: False when the file was there already, with this very LoRA in this form."""

    path: Path
    new: bool
    bytes: int


def save_lora(
    folder: Path,
    stem: str,
    policy: Policy,
    info: LoRAInfo,
    key_format: KeyFormat,
    names: UNetNames | None,
    dtype: torch.dtype = torch.float32,
) -> SavedLoRA:
    """Write <folder>/<stem>.safetensors, or <stem>_2 and so on when another LoRA has that name.

    stem: a plain file name; the caller has checked it. names: of the model's UNet, or None.
    Raises LoRAFileError; then nothing was written.
    """
    tensors = _cast(file_tensors(policy, key_format, names), dtype)
    same = {
        POLICY_KEY: policy.digest,
        FORMAT_KEY: key_format,
        DTYPE_KEY: dtype_name(dtype),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoRAFileError(f"{folder} could not be made: {error}.") from error
    encoder: _Encoder | None = None
    for number in range(1, MAX_COPIES + 1):
        name = stem if number == 1 else f"{stem}_{number}"
        path = folder / (name + SUFFIX)
        if os.path.lexists(path):
            if same.items() <= _metadata_or_nothing(path).items():
                return SavedLoRA(path, new=False, bytes=path.stat().st_size)
            continue
        encoder = encoder or _Encoder(tensors)
        metadata = file_metadata(info, policy, key_format, dtype, name, encoder.body_hash)
        data = encoder(metadata)
        if _create(path, data):
            return SavedLoRA(path, new=True, bytes=len(data))
    raise LoRAFileError(f"{folder} has {MAX_COPIES} files named {stem}. Choose another name.")


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    cast: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        # A number that must stay exact. Distinct, contiguous memory is what the format asks for.
        kept = torch.float32 if name.endswith(ALPHA) else dtype
        cast[name] = tensor.detach().cpu().to(kept).contiguous().clone()
        if not bool(torch.isfinite(cast[name]).all()):
            cure = "" if dtype == torch.float32 else " Try float32."
            raise LoRAFileError(
                f"The LoRA was not saved: {name} holds NaN or infinity as "
                f"{dtype_name(dtype)}.{cure}"
            )
    return cast


class _Encoder:
    """safetensors bytes whose metadata may speak of the tensor bytes that follow it."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        plain: bytes = safetensors.torch.save(tensors)
        size = int.from_bytes(plain[:8], "little")
        self._header = json.loads(plain[8 : 8 + size])
        self._body = memoryview(plain)[8 + size :]
        self.body_hash = hashlib.sha256(self._body).hexdigest()

    def __call__(self, metadata: Mapping[str, str]) -> bytes:
        header = json.dumps({"__metadata__": dict(metadata), **self._header}).encode()
        header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
        return b"".join((len(header).to_bytes(8, "little"), header, self._body))


def _create(path: Path, data: bytes) -> bool:
    """Write a whole new file; False when another one got the name first."""
    try:
        check_free_space(path.parent, len(data))
    except RunWriteError as error:
        raise LoRAFileError(str(error).replace("this round", "this LoRA")) from None
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        write_durably(temporary, data)
        try:
            os.link(temporary, path)  # unlike a rename, never replaces a file
        except FileExistsError:
            return False
        except OSError:  # a disk without hard links
            if os.path.lexists(path):
                return False
            os.rename(temporary, path)
        sync_folder(path.parent)
        return True
    except OSError as error:
        raise LoRAFileError(f"{path} could not be written: {error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _metadata_or_nothing(path: Path) -> Mapping[str, str]:
    """What a file says about itself; nothing when it is no LoRA file of ours."""
    try:
        return read_metadata(path)
    except LoRAFileError:
        return {}
