"""What a LoRA file says about itself: ModelSpec 1.0, the ss_* keys of kohya, and our own.

Lists and sidebars of other programs show these; the file loads without them.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timezone

import torch

from ..lora import Policy
from .keys import KeyFormat

MAX_THUMBNAIL_BYTES = 48 * 1024
MAX_TEXT = 4000

CONFIG_KEY = "pxpo.lora"
POLICY_KEY = "pxpo.policy"
FORMAT_KEY = "pxpo.format"
DTYPE_KEY = "pxpo.dtype"

_IMPLEMENTATION = {"diffusers": "diffusers"}
_COMFYUI = "https://github.com/comfyanonymous/ComfyUI"


@dataclass(frozen=True, slots=True)
class Architecture:
    """modelspec: architecture id, without "/lora". kohya: ss_base_model_version.

    resolution: the pictures the model was made for, "WxH".
    """

    modelspec: str
    kohya: str
    resolution: str = "512x512"


@dataclass(frozen=True, slots=True)
class LoRAInfo:
    """What the file tells people. run and round None: the LoRA comes from no training run.

    images: pictures sampled over the whole run. marked_images: those of them with feedback.
    resolution: "WxH" of the training pictures. thumbnail: JPEG bytes.
    """

    title: str
    architecture: Architecture
    run: str | None = None
    run_uuid: str | None = None
    round: int | None = None
    images: int | None = None
    marked_images: int | None = None
    resolution: str | None = None
    description: str = ""
    thumbnail: bytes | None = None


def file_metadata(
    info: LoRAInfo,
    policy: Policy,
    key_format: KeyFormat,
    dtype: torch.dtype,
    file_stem: str,
    tensor_hash: str,
) -> dict[str, str]:
    """The safetensors metadata: text keys and values. tensor_hash: sha256 of the tensor bytes."""
    config = policy.config
    rank, alpha = str(config.r), f"{config.lora_alpha:g}"
    version = info.architecture.kohya
    values: dict[str, object] = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{info.architecture.modelspec}/lora",
        "modelspec.implementation": _IMPLEMENTATION.get(key_format, _COMFYUI),
        "modelspec.title": info.title[:MAX_TEXT],
        "modelspec.description": info.description[:MAX_TEXT] or _summary(info),
        "modelspec.resolution": info.resolution or info.architecture.resolution,
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.hash_sha256": f"0x{tensor_hash}",
        "modelspec.thumbnail": _data_uri(info.thumbnail),
        "modelspec.tags": "pxpo, reinforcement learning",
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_network_args": _convolution_args(policy, rank, alpha),
        "ss_base_model_version": version,
        "ss_v2": str(version.startswith("sd_v2")),
        "ss_output_name": file_stem,
        "ss_training_comment": _summary(info),
        "ss_num_train_images": info.images,
        "ss_steps": info.round,
        "sshs_model_hash": tensor_hash,
        "pxpo.run": info.run,
        "pxpo.run_uuid": info.run_uuid,
        "pxpo.round": info.round,
        "pxpo.images": info.images,
        "pxpo.marked_images": info.marked_images,
        CONFIG_KEY: json.dumps(config.to_dict(), sort_keys=True),
        POLICY_KEY: policy.digest,
        FORMAT_KEY: key_format,
        DTYPE_KEY: dtype_name(dtype),
    }
    return {key: str(value) for key, value in values.items() if value not in (None, "")}


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _summary(info: LoRAInfo) -> str:
    """One line: how the LoRA was made."""
    text = "Trained with PXPO (pixel-wise policy optimisation)"
    if info.run is not None:
        text += f", run {info.run}"
    if info.round is not None:
        text += f", {info.round} rounds"
    if info.images is not None:
        text += f", {info.images} images"
    if info.marked_images is not None:
        text += f" ({info.marked_images} with feedback)"
    return text + "."


def _convolution_args(policy: Policy, rank: str, alpha: str) -> str:
    """kohya names the rank of 3x3 convolutions apart."""
    has_convolutions = any(t.ndim == 4 and t.shape[-1] > 1 for t in policy.tensors.values())
    return json.dumps({"conv_dim": rank, "conv_alpha": alpha}) if has_convolutions else ""


def _data_uri(jpeg: bytes | None) -> str:
    if jpeg is None or len(jpeg) > MAX_THUMBNAIL_BYTES or not jpeg.startswith(b"\xff\xd8"):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
