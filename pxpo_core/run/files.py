"""Files of a run: bounded JSON, checked safetensors, small pictures, and durable writes."""

import hashlib
import io
import json
import math
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from .errors import RunDamagedError, RunWriteError

MAX_JSON_BYTES = 4 * 1024 * 1024
FREE_SPACE_RESERVE = 64 * 1024 * 1024

MAP_ZERO = 128
"""Grey level of a reward of 0 in a saved reward map."""


def json_bytes(value: Any, what: str) -> bytes:
    """Strict JSON (no NaN), at most MAX_JSON_BYTES; raises RunWriteError naming `what`."""
    try:
        data = json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RunWriteError(f"The {what} cannot be written as JSON: {error}.") from None
    if len(data) > MAX_JSON_BYTES:
        raise RunWriteError(f"The {what} takes {len(data)} bytes of JSON, more than allowed.")
    return data


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """A JSON object; raises RunDamagedError for anything else, however malformed."""

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} is not a finite number")
        return value

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=finite, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise RunDamagedError(f"{path} is not readable JSON ({_short(error)}).") from None
    if not isinstance(value, dict):
        raise RunDamagedError(f"{path} should hold a JSON object.")
    return value


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a plain file; raises RunDamagedError if it is missing, a link or too large."""
    size = plain_size(path)
    if size is None:
        raise RunDamagedError(f"{path} is missing.")
    if size > max_bytes:
        raise RunDamagedError(f"{path} has {size} bytes, more than the expected {max_bytes}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunDamagedError(f"{path} cannot be read ({_short(error)}).") from None


def plain_size(path: Path | str) -> int | None:
    """Size of a regular file, None when there is no such file (links do not count)."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tensor_bytes(tensors: Mapping[str, Tensor], what: str, metadata: dict[str, str]) -> bytes:
    """safetensors of finite float32 tensors; raises RunWriteError naming the bad one."""
    for name, tensor in tensors.items():
        problem = _tensor_problem(tensor)
        if problem:
            raise RunWriteError(f"{what}: tensor {name} {problem}; nothing was written.")
    # Distinct memory per tensor is what the format asks for.
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return bytes(safetensors.torch.save(plain, metadata))


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """Finite float32 tensors of a safetensors file, as ordinary (not inference) tensors."""
    try:
        with torch.inference_mode(False):
            tensors = {n: t.clone() for n, t in safetensors.torch.load(data).items()}
    except Exception as error:  # the parser raises its own types, and ValueError, KeyError...
        raise RunDamagedError(
            f"{path} is not a readable safetensors file ({_short(error)})."
        ) from None
    for name, tensor in tensors.items():
        problem = _tensor_problem(tensor)
        if problem:
            raise RunDamagedError(f"{path}: tensor {name:.80} {problem}.")
    return tensors


def reward_png(reward_map: Tensor, scale: float) -> bytes:
    """[h, w] signed as an 8-bit grey PNG: 128 = 0, 1 and 255 = -scale and +scale."""
    levels = MAP_ZERO + 127.0 * reward_map / (scale if scale > 0.0 else 1.0)
    return _image_bytes(levels.round().clamp(1, 255).to(torch.uint8), "PNG")


def thumbnail_jpeg(picture: Tensor) -> bytes:
    """[h, w, 3] uint8 as JPEG."""
    return _image_bytes(picture, "JPEG")


def write_durably(path: Path, data: bytes) -> None:
    """Create a file that must not exist yet, and force it to the disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, temporary: Path, data: bytes) -> None:
    """Write `path` so that a reader sees the old or the new content, never a part."""
    write_durably(temporary, data)
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk; Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_free_space(folder: Path, needed: int) -> None:
    """Raise RunWriteError when `needed` bytes and a reserve do not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if free < needed + FREE_SPACE_RESERVE:
        raise RunWriteError(
            f"The disk of {folder} has {free / 1e6:.0f} MB free, and this round needs "
            f"{(needed + FREE_SPACE_RESERVE) / 1e6:.0f} MB. Make room and press Run again."
        )


def is_number(value: object) -> bool:
    """A finite JSON number (True and False are not numbers)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _tensor_problem(tensor: Tensor) -> str:
    if tensor.dtype != torch.float32:
        return f"is {tensor.dtype}, not float32"
    if not bool(torch.isfinite(tensor).all()):
        return "holds NaN or infinity"
    return ""


def _image_bytes(pixels: Tensor, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.contiguous().cpu().numpy()).save(buffer, kind)
    return buffer.getvalue()


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
