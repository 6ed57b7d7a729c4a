"""The development tools: environment, fetching, base directory, server process, workflow files."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pxpo_dev import comfyui, environment, workflow
from pxpo_dev.client import Client, PromptRejected, rejection
from pxpo_dev.comfyui import ComfyUI, ComfyUIMissing
from pxpo_dev.environment import Environment
from pxpo_dev.paths import HOME, REPO, SCRIPTS
from pxpo_dev.server import Server, ServerFailed, free_port, port_in_use

# Stands in for ComfyUI's main.py where only the process matters, so that these tests take no time.
ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def no_torchvision(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in needs no torchvision, which takes seconds to import."""
    shadow = tmp_path_factory.mktemp("shadow")
    (shadow / "torchvision.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(shadow))


def fake_server(folder: Path, main: str, **options: Any) -> Server:
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(main, encoding="utf-8")
    return Server(Environment(Path(sys.prefix)), ComfyUI(folder, "test"), folder, **options)


@pytest.mark.usefixtures("no_torchvision")
def test_server_starts_and_ends(tmp_path: Path) -> None:
    with fake_server(tmp_path, ANSWERS) as server:
        assert server.client.is_up()
        assert server.memory() > 0
    assert not server.client.is_up()
    assert not port_in_use(server.port)


@pytest.mark.usefixtures("no_torchvision")
def test_server_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    server = fake_server(tmp_path, "raise SystemExit('the disk is on fire')")
    with pytest.raises(ServerFailed, match="the disk is on fire"):
        server.start()
    assert server.process is None


@pytest.mark.usefixtures("no_torchvision")
def test_port_in_use_is_said(tmp_path: Path) -> None:
    with fake_server(tmp_path, ANSWERS) as first:
        second = fake_server(tmp_path / "second", ANSWERS, port=first.port)
        with pytest.raises(ServerFailed, match=f"Port {first.port} is in use"):
            second.start()


@pytest.mark.usefixtures("no_torchvision")
def test_server_that_ignores_ctrl_c_is_ended(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + ANSWERS
    server = fake_server(tmp_path, stubborn).start()
    process = server.process
    assert process is not None
    server.stop()
    assert process.poll() is not None


@pytest.mark.usefixtures("no_torchvision")
def test_server_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    """Even kill -9 on the demo leaves no server behind."""
    port = free_port()
    fake_server(tmp_path, ANSWERS)
    code = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(SCRIPTS)!r})
from pxpo_dev.comfyui import ComfyUI
from pxpo_dev.environment import Environment
from pxpo_dev.server import Server
folder = Path({str(tmp_path)!r})
Server(Environment(Path(sys.prefix)), ComfyUI(folder, "test"), folder, port={port}).start()
print("started", flush=True)
time.sleep(60)
"""
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline().strip() == "started"
    starter.kill()
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 10
    while port_in_use(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not port_in_use(port)


def test_an_environment_is_reused_until_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        Environment, "pip", lambda self, *args: installed.append(tuple(map(str, args)))
    )

    def create(root: Path, with_pip: bool) -> None:
        python = Environment(root).python
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(environment.venv, "create", create)
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("one\n", encoding="utf-8")
    root = tmp_path / "venv"
    environment.ensure((wanted,), root)
    environment.ensure((wanted,), root)
    assert len(installed) == 1
    wanted.write_text("two\n", encoding="utf-8")
    environment.ensure((wanted,), root)
    assert len(installed) == 2
    environment.ensure((wanted,), root)
    monkeypatch.setattr(environment, "python_series", lambda: "4.0")
    environment.ensure((wanted,), root)
    assert len(installed) == 3


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    archive = tmp_path / "bad.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inside/good.txt", "good")
        file.writestr("inside/../../evil.txt", "evil")
        file.writestr("other/file.txt", "not wanted")
    with pytest.raises(ComfyUIMissing, match="unsafe path"):
        comfyui.extract(archive, PurePosixPath("inside"), tmp_path / "out")
    assert not list(tmp_path.rglob("evil.txt"))
    assert not list(tmp_path.rglob("file.txt"))


def test_comfyui_path_must_be_comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ComfyUIMissing, match=r"main\.py, nodes\.py, comfy not found there"):
        comfyui.prepare()


@pytest.mark.parametrize("links", [True, False])
def test_base_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    pack = tmp_path / "checkout"
    (pack / "nodes").mkdir(parents=True)
    (pack / ".git").mkdir()
    (pack / "__init__.py").write_text("version = 1", encoding="utf-8")
    if not links:

        def refuse(*_: object, **__: object) -> None:
            raise OSError("symbolic link privilege not held")

        monkeypatch.setattr(Path, "symlink_to", refuse)
    base = tmp_path / "base"
    for version in (1, 2):  # a second start shows the checkout as it is then
        (pack / "__init__.py").write_text(f"version = {version}", encoding="utf-8")
        comfyui.base_directory(base, pack)
        shown = base / "custom_nodes" / "pxpo"
        assert (shown / "__init__.py").read_text(encoding="utf-8") == f"version = {version}"
        assert shown.is_symlink() is links
        assert links or not (shown / ".git").exists()
    settings = json.loads((base / "user/default/comfy.settings.json").read_text("utf-8"))
    assert settings["Comfy.TutorialCompleted"] is True
    settings_file = base / "user/default/comfy.settings.json"
    settings_file.write_text('{"mine": 1}', encoding="utf-8")
    comfyui.base_directory(base, pack)
    assert json.loads(settings_file.read_text("utf-8")) == {"mine": 1}


def test_a_folder_of_someone_else_is_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "base" / "custom_nodes" / "pxpo"
    mine.mkdir(parents=True)
    (mine / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ComfyUIMissing, match="Move it away"):
        comfyui.base_directory(tmp_path / "base", REPO)
    assert (mine / "precious.txt").exists()


INFO = {
    "Node": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "mode": [["a", "b"], {}],
            },
            "optional": {"text": ["STRING", {}], "linked": ["INT", {"forceInput": True}]},
        },
    },
    "Source": {"input": {"required": {}}},
}


def ui_workflow(values: list[Any]) -> dict[str, Any]:
    return {
        "nodes": [
            {"id": 1, "type": "Source", "widgets_values": []},
            {
                "id": 2,
                "type": "Node",
                "inputs": [{"name": "model", "link": 9}],
                "widgets_values": values,
            },
            {"id": 3, "type": "MarkdownNote", "widgets_values": ["words"]},
            {"id": 4, "type": "Node", "mode": 4, "widgets_values": []},
        ],
        "links": [[9, 1, 0, 2, 0, "MODEL"]],
    }


def test_widget_values_are_read_by_position() -> None:
    prompt = workflow.to_api(ui_workflow([7, "fixed", "b", "hello"]), INFO)
    assert prompt == {
        "1": {"class_type": "Source", "inputs": {}},
        "2": {
            "class_type": "Node",
            "inputs": {"model": ["1", 0], "seed": 7, "mode": "b", "text": "hello"},
        },
    }


def test_an_older_workflow_lacks_the_widgets_that_came_later() -> None:
    prompt = workflow.to_api(ui_workflow([7, "fixed", "b"]), INFO)
    assert prompt["2"]["inputs"] == {"model": ["1", 0], "seed": 7, "mode": "b"}


@pytest.mark.parametrize(
    ("values", "message"),
    [([7, "fixed"], "no value for 'mode'"), ([7, "fixed", "b", "c", 1], "too many")],
)
def test_widget_values_that_do_not_fit(values: list[Any], message: str) -> None:
    with pytest.raises(workflow.WorkflowInvalid, match=message):
        workflow.to_api(ui_workflow(values), INFO)


def test_a_refused_prompt_is_explained() -> None:
    response = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {
            "5": {
                "class_type": "PXPO_Run",
                "errors": [{"message": "Bad name", "details": "run_name '../x'"}],
            }
        },
    }
    message = rejection(response, {})
    assert "PXPO_Run (node 5): Bad name: run_name '../x'" in message
    assert isinstance(PromptRejected(message, response), RuntimeError)


def test_a_server_that_is_not_there_is_not_up() -> None:
    assert not Client(f"http://127.0.0.1:{free_port()}").is_up()


@pytest.mark.parametrize("script", ["demo.py", "test.py"])
def test_scripts_start_with_the_standard_library_alone(script: str) -> None:
    """-I and -S: no site-packages, as on a bare Python."""
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); sys.argv = [{script!r}, '--help'];"
        f"import runpy; runpy.run_path({str(SCRIPTS / script)!r}, run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert script in result.stdout


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1)])
def test_checks_that_run_beside_each_other_all_count(
    codes: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    run_beside = runpy.run_path(str(SCRIPTS / "test.py"))["run_beside"]
    commands = [
        [sys.executable, "-S", "-c", f"print('check {i}', flush=True); raise SystemExit({code})"]
        for i, code in enumerate(codes)
    ]
    assert run_beside(commands, dict(os.environ)) is (codes == (0, 0))
    assert capfd.readouterr().out.split("\n") == ["check 0", "check 1", ""]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl+C to a whole console")
def test_the_demo_serves_the_example_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    installed = Environment(HOME / "venv").installed()
    if not {"requirements-torch.txt", "requirements-demo.txt"} <= installed.keys():
        pytest.skip("scripts/demo.py has not made its environment yet")
    command = [sys.executable, str(SCRIPTS / "demo.py"), "--no-browser", "--base", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl+C" in line:
            break
    text = "".join(lines)
    address = re.search(r"http://127\.0\.0\.1:\d+", text)
    assert address, text
    client = Client(address.group())
    assert client.is_up()
    assert client.get("/api/workflow_templates/pxpo/PXPO_Less_Blue.json")["nodes"]
    process.send_signal(number)
    rest, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "Stopped." in rest
    assert not client.is_up()
