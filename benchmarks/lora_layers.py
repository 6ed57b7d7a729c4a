"""What a LoRA costs by the layers it is in, counted on models that have no numbers in them.

    python3 scripts/bench.py lora_layers        seconds

Rank 8, one picture of 512x512 with classifier-free guidance on SD1.5: operations of a training step
and bytes its gradient keeps, as in `resolution`. Parameters: of SD1.5 and of SDXL.
"""

from __future__ import annotations

import json
from typing import Any

from full_size.counting import count, lora_parameters
from full_size.host import import_comfyui
from full_size.models import ARCHITECTURES
from full_size.usage import gigabytes
from pxpo_dev.comfyui import commit
from pxpo_dev.paths import REPO

from pxpo_core.lora import TARGETS

RESULT = REPO / "benchmarks" / "results" / "lora_layers.json"
SIZE = 512


def main() -> int:
    comfyui = import_comfyui()
    result = {
        "size": SIZE, "rank": 8, "layers": {target: row(target) for target in TARGETS},
        "comfyui": comfyui.version, "commit": commit(),
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


def row(target: str) -> dict[str, Any]:
    counts = count(SIZE, target)
    memory = counts.memory
    return {
        "training_tflop": round(counts.training_flop / 1e12, 2),
        "kept_gb_per_picture": gigabytes(memory.plain.needed(1)),
        "kept_checkpointed_gb_per_picture": gigabytes(memory.checkpointed.needed(1)),
        "parameters": {name: lora_parameters(name, target) for name in ARCHITECTURES},
    }


if __name__ == "__main__":
    raise SystemExit(main())
