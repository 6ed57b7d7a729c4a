"""LoRA files other programs load: their key names, metadata, writing and reading."""

from .errors import LoRAFileError
from .keys import KeyFormat, file_tensors
from .metadata import Architecture, LoRAInfo, file_metadata
from .read import LoadedLoRA, read_lora
from .spellings import Place
from .tensors import policy_from_tensors
from .unet_names import UNetNames, unet_names
from .write import SavedLoRA, save_lora

__all__ = [
    "Architecture",
    "KeyFormat",
    "LoRAFileError",
    "LoRAInfo",
    "LoadedLoRA",
    "Place",
    "SavedLoRA",
    "UNetNames",
    "file_metadata",
    "file_tensors",
    "policy_from_tensors",
    "read_lora",
    "save_lora",
    "unet_names",
]
