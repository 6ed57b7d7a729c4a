"""The pack loads without a complaint, and its nodes keep the shape that saved workflows rely on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pxpo_dev.paths import EXAMPLE_WORKFLOW, REPO
from pxpo_dev.server import Server
from pxpo_dev.workflow import is_widget, load, schema_inputs, to_api

HOSTS_OWN = ("scheduler", "start_from")
"""Choices that the host lists: its schedulers, a person's LoRAs."""

GOLDEN = REPO / "tests" / "golden" / "schema.json"


def nodes_of(server: Server) -> dict[str, dict[str, Any]]:
    """The pack's nodes, by id."""
    info = server.client.object_info()
    return {name: info[name] for name in sorted(info) if name.startswith("PXPO_")}


def schema(info: dict[str, Any]) -> dict[str, Any]:
    """What a saved workflow or an API prompt depends on."""
    inputs = []
    for name, kind, options in schema_inputs(info):
        entry: dict[str, Any] = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind}
        entry["optional"] = name in info["input"].get("optional", {})
        if is_widget(kind, options):
            entry["default"] = options.get("default")
            entry |= {key: options[key] for key in ("min", "max") if key in options}
            if entry["type"] == "COMBO" and name not in HOSTS_OWN:
                entry["options"] = kind if isinstance(kind, list) else options["options"]
            assert not options.get("control_after_generate"), f"{name} would add a widget"
        inputs.append(entry)
    outputs = list(zip(info["output_name"], info["output"], strict=True))
    return {
        "display_name": info["display_name"],
        "category": info["category"],
        "output_node": info["output_node"],
        "inputs": inputs,
        "outputs": [{"name": name, "type": kind} for name, kind in outputs],
    }


def test_pack_loads_without_a_failed_import(shared_server: Server) -> None:
    log = shared_server.log_text()
    pack = str(shared_server.base / "custom_nodes")
    assert not [line for line in log.splitlines() if "IMPORT FAILED" in line and pack in line]
    assert f"Cannot import {pack}" not in log
    assert str(shared_server.base / "custom_nodes" / "pxpo") in log, "it was looked at"


def test_every_node_says_what_it_does(shared_server: Server) -> None:
    for name, info in nodes_of(shared_server).items():
        assert info["description"], f"{name} has no description"
        assert info["category"] in ("PXPO", "PXPO/demo")


def test_nodes_keep_their_shape(shared_server: Server) -> None:
    """Ids, inputs in order, defaults and outputs. PXPO_UPDATE_GOLDEN=1 writes a wanted change."""
    found = {name: schema(info) for name, info in nodes_of(shared_server).items()}
    if os.environ.get("PXPO_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_example_workflows_fit_the_nodes(shared_server: Server) -> None:
    info = shared_server.client.object_info()
    files = sorted(EXAMPLE_WORKFLOW.parent.glob("*.json"))
    assert EXAMPLE_WORKFLOW in files
    for path in files:
        workflow = load(path)
        prompt = to_api(workflow, info)
        assert "PXPO_UpdateLoRA" in {node["class_type"] for node in prompt.values()}
        for node in prompt.values():
            required = info[node["class_type"]]["input"].get("required", {})
            assert set(required) <= set(node["inputs"]), f"{path.name}: {node['class_type']}"


def test_every_example_trains_a_run_of_its_own(shared_server: Server) -> None:
    """Two templates that were opened one after the other must not go on with each other's run."""
    info = shared_server.client.object_info()
    default = info["PXPO_Run"]["input"]["required"]["run_name"][1]["default"]
    names = [
        node["inputs"]["run_name"]
        for path in sorted(EXAMPLE_WORKFLOW.parent.glob("*.json"))
        for node in to_api(load(path), info).values()
        if node["class_type"] == "PXPO_Run"
    ]
    assert len(names) >= len(list(EXAMPLE_WORKFLOW.parent.glob("*.json")))
    assert len({name.lower() for name in [*names, default]}) == len(names) + 1


def test_example_workflows_have_thumbnails_and_are_served(shared_server: Server) -> None:
    served = shared_server.client.get("/workflow_templates")
    for path in EXAMPLE_WORKFLOW.parent.glob("*.json"):
        assert path.stem in served["pxpo"]
        assert path.with_suffix(".jpg").exists(), f"{path.name} has no thumbnail"
        answer = shared_server.client.get(f"/api/workflow_templates/pxpo/{path.name}")
        assert answer["nodes"]


def test_every_node_has_a_page_of_help(shared_server: Server) -> None:
    for name in nodes_of(shared_server):
        page = REPO / "web" / "docs" / f"{name}.md"
        assert page.exists(), f"{page.relative_to(REPO)} is missing"


def test_importing_the_pack_outside_comfyui_is_harmless(tmp_path: Path) -> None:
    import subprocess
    import sys

    link = tmp_path / "any_folder_name"
    link.symlink_to(REPO, target_is_directory=True)
    code = (
        "import sys; before = set(sys.modules); import any_folder_name as pack;"
        "assert pack.comfy_entrypoint and pack.WEB_DIRECTORY;"
        "assert 'torch' not in sys.modules and 'comfy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
