"""Every node has a help page that names all its inputs."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
SCHEMA = json.loads((ROOT / "tests" / "golden" / "schema.json").read_text("utf-8"))


@pytest.mark.parametrize("node", sorted(SCHEMA))
def test_a_page_names_the_node_and_every_input(node):
    page = (DOCS / f"{node}.md").read_text("utf-8")
    assert page.startswith(f"# {SCHEMA[node]['display_name']}\n")
    names = {entry["name"] for entry in SCHEMA[node]["inputs"]}
    missing = [name for name in names if f"**{name}**" not in page]
    assert not missing
