"""What the documents promise exists."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = ("README.md", "CONTRIBUTING.md")


def table_paths(text: str) -> list[str]:
    """Return the paths in backticks of all table rows, without those that have a placeholder."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    quoted = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    return [name for name in quoted if ("/" in name or name.endswith(".md")) and "<" not in name]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_tables_name_only_what_exists(document):
    paths = table_paths((REPOSITORY / document).read_text(encoding="utf-8"))
    assert paths
    roots = (REPOSITORY, REPOSITORY / "amodal2")
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_name_only_what_exists(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z_]+):", (REPOSITORY / "Makefile").read_text()))
    assert set(re.findall(r"(?m)(?:^|`)make ([a-z]+)", text)) <= targets
    named = re.findall(r"(?<![\w/])(?:tools|datasets|configs|tests)/[\w./-]+\.(?:py|yaml)\b", text)
    assert named
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []


def test_makefile_demo_uses_scripts_and_configs_that_exist():
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"\b(?:tools|datasets|configs)/[\w./-]+\.(?:py|yaml)\b", text)
    assert "tools/video_demo.py" in named
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []


def test_table_paths_finds_what_rows_name():
    text = "`a/b` outside\n| `c/d.py` | `word` | `x/<name>` |\n| `README.md`, `e/` |"
    assert table_paths(text) == ["c/d.py", "README.md", "e/"]
