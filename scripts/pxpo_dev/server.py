"""Start a real ComfyUI server in a process group of its own, and end it for certain."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from .client import Client
from .comfyui import ComfyUI
from .environment import Environment
from .paths import SCRIPTS

START_TIMEOUT = 180.0


class ServerFailed(RuntimeError):
    """The server did not start; the message ends with what it last said."""


class Server:
    """A running ComfyUI. Use it as a context manager, or call `stop`."""

    def __init__(
        self,
        environment: Environment,
        comfyui: ComfyUI,
        base: Path,
        *,
        port: int | None = None,
        log: Path | None = None,
        device_arguments: tuple[str, ...] = ("--cpu",),
        frontend: Path | None = None,
    ) -> None:
        self.environment, self.comfyui, self.base = environment, comfyui, base
        self.port = port or free_port()
        self.log = log or base / "server.log"
        self.device_arguments = device_arguments
        self.frontend = frontend  # the static folder of another web UI than ComfyUI names
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Client(f"http://127.0.0.1:{self.port}")
        self.peak_memory = 0.0

    @property
    def address(self) -> str:
        """Where the web UI is."""
        return self.client.address

    def start(self) -> Server:
        """Start the server and wait until it answers."""
        if port_in_use(self.port):
            raise ServerFailed(
                f"Port {self.port} is in use by another program. "
                "Leave out --port to take a free one."
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, object] = {"start_new_session": True}
        if os.name == "nt":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.base,
                env=server_environment(),
                # Held open by us: the launcher ends the server when this pipe closes.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,  # type: ignore[call-overload]
            )
        try:
            self.wait_until_listening()
        except BaseException:
            self.stop()
            raise
        return self

    def command(self) -> list[str]:
        """The command line; every path ComfyUI would write to lies in the base directory."""
        return [
            str(self.environment.python),
            str(SCRIPTS / "pxpo_dev" / "launch.py"),
            str(self.comfyui.root / "main.py"),
            *self.device_arguments,
            "--listen",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--base-directory",
            str(self.base),
            "--database-url",
            f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}",
            "--preview-method",
            "latent2rgb",
            "--disable-api-nodes",
            "--disable-auto-launch",
            *(("--front-end-root", str(self.frontend)) if self.frontend else ()),
        ]

    def wait_until_listening(self) -> None:
        """Return when HTTP answers; raise ServerFailed with the end of the log when it does not."""
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            code = self.process.poll()
            if code is not None:
                raise ServerFailed(f"ComfyUI ended with exit code {code}. {self.log_end()}")
            if self.client.is_up():
                return
            time.sleep(0.1)
        raise ServerFailed(f"ComfyUI did not answer within {START_TIMEOUT:.0f} s. {self.log_end()}")

    def stop(self) -> None:
        """End the server: ask, then insist."""
        process = self.process
        if process is None:
            return
        self.memory()
        for action, patience in ((self.ask, 5.0), (process.terminate, 3.0), (self.kill, 10.0)):
            if process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                action()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        self.process = None

    def ask(self) -> None:
        """Ctrl+C for the server's process group."""
        assert self.process is not None
        if os.name == "nt":
            self.process.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined]
        else:
            os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the whole process group at once."""
        assert self.process is not None
        if os.name == "nt":
            self.process.kill()
        else:
            os.killpg(self.process.pid, signal.SIGKILL)

    def memory(self) -> float:
        """Peak resident memory of the server so far, in MB (0 if the system does not tell)."""
        if self.process is not None and self.process.poll() is None:
            self.peak_memory = max(self.peak_memory, resident_memory(self.process.pid))
        return self.peak_memory

    def log_text(self) -> str:
        """What the server has written so far."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def log_end(self, lines: int = 15) -> str:
        """The last lines of the log, for a message."""
        tail = "\n".join(self.log_text().splitlines()[-lines:])
        return f"The end of its log ({self.log}):\n{tail}"

    def __enter__(self) -> Server:
        return self if self.process is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def server_environment() -> dict[str, str]:
    """The server's environment variables."""
    return {
        **os.environ,
        # GNU OpenMP otherwise spins while it waits, which costs seconds per step on a busy machine.
        "GOMP_SPINCOUNT": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",
    }


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_in_use(port: int) -> bool:
    """Whether something listens on this port already."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def resident_memory(pid: int) -> float:
    """Peak resident memory of a process in MB; on macOS the present one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if peak:
        return int(peak.group(1)) / 1024
    try:
        import psutil
    except ImportError:
        return 0.0
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0.0
    return float(getattr(info, "peak_wset", info.rss)) / 2**20
