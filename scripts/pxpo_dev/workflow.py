"""Turn a workflow file of the web UI into a prompt of the HTTP API, and find nodes in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Node = dict[str, Any]
Prompt = dict[str, Node]

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
ONLY_IN_THE_UI = {"Note", "MarkdownNote"}
MUTED, BYPASSED = 2, 4


class WorkflowInvalid(ValueError):
    """A workflow does not fit the nodes of the server; the message names the place."""


def load(path: Path) -> dict[str, Any]:
    """Read a workflow file."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def schema_inputs(info: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(name, type, options) of a node's inputs in the order of its widgets."""
    for group in ("required", "optional"):
        inputs = info["input"].get(group, {})
        for name in info.get("input_order", {}).get(group, inputs):
            kind, *options = inputs[name]
            yield name, kind, dict(options[0]) if options else {}


def is_widget(kind: Any, options: Mapping[str, Any]) -> bool:
    """Whether an input is shown as a widget (a list of choices is a COMBO of the old style)."""
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")


def widget_values(node: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The node's widget values by name; they are stored by position."""
    values = list(node.get("widgets_values") or ())
    found: dict[str, Any] = {}
    for name, kind, options in schema_inputs(info):
        if not is_widget(kind, options):
            continue
        if not values and name in info["input"].get("optional", {}):
            continue  # saved before the widget was added
        if not values:
            raise WorkflowInvalid(f"{node['type']} (node {node['id']}) has no value for {name!r}")
        found[name] = values.pop(0)
        if options.get("control_after_generate"):
            values.pop(0)  # "fixed", "randomize", ...: a widget of the UI only
        if options.get("image_upload"):
            values = values[1:]  # the upload button
    if values:
        raise WorkflowInvalid(
            f"{node['type']} (node {node['id']}) has widget values too many: {values}"
        )
    return found


def to_api(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> Prompt:
    """The API prompt of a UI workflow, checked against the server's schemas."""
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in ONLY_IN_THE_UI or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if kind not in object_info:
            raise WorkflowInvalid(f"The server has no node {kind!r} (node {node['id']}).")
        inputs: dict[str, Any] = widget_values(node, object_info[kind])
        known = {name for name, _, _ in schema_inputs(object_info[kind])}
        for slot in node.get("inputs", ()):
            if slot.get("link") is None:
                continue
            if slot["name"] not in known:
                raise WorkflowInvalid(f"{kind} (node {node['id']}) has no input {slot['name']!r}.")
            inputs[slot["name"]] = list(links[slot["link"]])
        prompt[str(node["id"])] = {"class_type": kind, "inputs": inputs}
    return prompt


def find(prompt: Mapping[str, Node], class_type: str) -> str:
    """The id of the only node of one class."""
    found = [node_id for node_id, node in prompt.items() if node["class_type"] == class_type]
    if len(found) != 1:
        raise WorkflowInvalid(f"Expected one {class_type} in the workflow, found {len(found)}.")
    return found[0]


def changed(prompt: Prompt, class_type: str, **inputs: Any) -> Prompt:
    """A copy of the prompt with other inputs on the only node of one class."""
    result = copy.deepcopy(prompt)
    result[find(result, class_type)]["inputs"].update(inputs)
    return result
