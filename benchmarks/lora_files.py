"""Trained LoRAs in every program that should load them, on UNets as large as memory allows.

    python3 scripts/bench.py lora_files                          SDXL half as wide: about 8 GB
    python3 scripts/bench.py lora_files --channels 320 320       SDXL as wide too: about 24 GB

The UNets are the host's own classes at full depth with random weights. A LoRA of every
layer is trained for one round, written in each format and loaded again. What is measured is the
largest difference of a prediction from the trained policy's, relative to the largest change that
the LoRA makes; 1e-3 is allowed in float32. The key names and the layers' shapes are the real ones,
so a file that loads here loads on the real model.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from lora_unets import REAL, UNet, trained_unet
from pxpo_dev.comfyui import commit, read
from pxpo_dev.launch import import_torchvision
from pxpo_dev.paths import REPO

from pxpo_core.lora_file import Architecture, KeyFormat, LoRAInfo, save_lora

RESULT = REPO / "benchmarks" / "results" / "lora_files.json"
LIMIT = 1e-3
INFO = LoRAInfo("hair", Architecture("stable-diffusion-v1", "sd_v1"), run="hair", round=1)


def save(unet: UNet, folder: Path, key_format: KeyFormat) -> Path:
    from pxpo_core.backends.comfy.lora_files import model_unet_names

    names = model_unet_names(unet.model)
    return save_lora(folder, f"hair_{key_format}", unet.policy, INFO, key_format, names).path


def error(unet: UNet, prediction: torch.Tensor) -> float:
    """Difference from the trained policy, relative to what it changes."""
    moved = (unet.trained - unet.base).abs().max()
    return float((prediction - unet.trained).abs().max() / moved)


def own_loader(unet: UNet, folder: Path, key_format: KeyFormat) -> float:
    """PXPO's reader."""
    from pxpo_core.backends.comfy.lora_files import read_model_lora

    loaded = read_model_lora(save(unet, folder, key_format), unet.model, folder)
    return error(unet, unet.predict_with(loaded.policy))


def diffusers_loader(unet: UNet, folder: Path, key_format: KeyFormat) -> float:
    """load_lora_weights of the kind's pipeline, without its text encoders and VAE."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
    from diffusers import StableDiffusionXLPipeline as XLPipeline

    network = unet.diffusers_unet(share=True)
    parts = {"vae": None, "text_encoder": None, "tokenizer": None, "unet": network,
             "scheduler": EulerDiscreteScheduler()}  # fmt: skip
    if unet.kind == "sdxl":
        pipeline: Any = XLPipeline(**parts, text_encoder_2=None, tokenizer_2=None)
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.load_lora_weights(str(save(unet, folder, key_format)))
    loaded = sum(name.endswith("lora_A") for name, _ in network.named_modules())
    if loaded != len(unet.policy.layers):
        raise SystemExit(f"diffusers loaded {loaded} of {len(unet.policy.layers)} layers")
    return error(unet, unet.predict_in_diffusers(network))


def host_loader(unet: UNet, folder: Path, key_format: KeyFormat) -> float:
    """What Load LoRA and LoraLoaderModelOnly do."""
    import comfy.model_management

    from nodes import LoraLoader, LoraLoaderModelOnly

    path = save(unet, folder, key_format)
    worst = 0.0
    for node in (LoraLoader(), LoraLoaderModelOnly()):
        if isinstance(node, LoraLoaderModelOnly):
            (model,) = node.load_lora_model_only(unet.model, path.name, 1.0)
        else:
            model, _ = node.load_lora(unet.model, None, path.name, 1.0, 0.0)
        if len(model.patches) != len(unet.policy.layers):
            raise SystemExit(f"the host applied {len(model.patches)} layers")
        comfy.model_management.load_models_gpu([model])
        worst = max(worst, error(unet, unet.predict()))
        comfy.model_management.unload_all_models()
    return worst


def measure(
    kind: str, settings: dict[str, Any], dtype: torch.dtype, latent: int, folder: Path
) -> dict[str, Any]:
    """One kind of UNet."""
    begun = time.monotonic()
    unet = trained_unet(kind, settings, dtype, latent, batch=1)
    size = sum(p.numel() for p in unet.network.parameters())
    moved = float((unet.trained - unet.base).abs().max() / unet.trained.abs().max())
    print(f"{kind}: {size / 1e6:.0f} M parameters, a LoRA of {len(unet.policy.layers)} layers that "
          f"moves the prediction by {100 * moved:.0f} %", flush=True)  # fmt: skip
    found: dict[str, float] = {}
    for name, loader, key_format in (
        ("PXPO, kohya keys", own_loader, "kohya"),
        ("PXPO, diffusers keys", own_loader, "diffusers"),
        ("diffusers load_lora_weights, kohya keys", diffusers_loader, "kohya"),
        ("diffusers load_lora_weights, diffusers keys", diffusers_loader, "diffusers"),
        ("LoraLoader and LoraLoaderModelOnly, kohya keys", host_loader, "kohya"),
        ("LoraLoader and LoraLoaderModelOnly, diffusion_model keys", host_loader, "generic"),
    ):
        found[name] = loader(unet, folder, key_format)
        gc.collect()
        print(f"  {name}: {found[name]:.1e}", flush=True)
    return {
        "parameters": size,
        "channels": settings["model_channels"],
        "layers": len(unet.policy.layers),
        "dtype": str(dtype).removeprefix("torch."),
        "latent": latent,
        "moved": moved,
        "largest_difference": max(found.values()),
        "differences": found,
        "seconds": round(time.monotonic() - begun),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=list(REAL), default=["sd15", "sdxl"])
    parser.add_argument(
        "--channels", nargs="+", type=int, default=[320, 160], help="of each kind; 320 is real"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--latent", type=int, default=8, help="width and height of the latents")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)

    comfy = read(Path(os.environ["COMFYUI_PATH"]))
    import_torchvision()
    sys.path.insert(0, str(comfy.root))
    import comfy.options as host_options  # type: ignore[import-not-found]

    host_options.enable_args_parsing(False)
    from comfy.cli_args import args  # type: ignore[import-not-found]

    args.cpu = True
    import folder_paths  # type: ignore[import-not-found]

    dtype = getattr(torch, options.dtype)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.add_model_folder_path("loras", folder)
        for kind, channels in zip(options.kinds, options.channels, strict=True):
            settings = {**REAL[kind], "model_channels": channels}
            results[kind] = measure(kind, settings, dtype, options.latent, Path(folder))
            gc.collect()
    worst = max(result["largest_difference"] for result in results.values())
    result = {
        "largest_difference": worst,
        "allowed": LIMIT if options.dtype == "float32" else None,
        "kinds": results,
        "comfyui": comfy.version,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 1 if options.dtype == "float32" and worst > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
