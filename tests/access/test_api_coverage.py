"""The table of docs/api-coverage.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "api-coverage.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "| Capability" not in line]


def names_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_has_a_call_and_a_test() -> None:
    """Every capability has at least one test."""
    assert len(rows()) > 50
    for row in rows():
        assert len(row) == 3, row
        assert TEST.search(row[2]), row


def test_every_test_named_exists() -> None:
    """Every test named in the table exists."""
    named = set(TEST.findall(TABLE.read_text()))
    missing = [f"{path}::{name}" for path, name in sorted(named) if name not in names_of(ROOT / path)]
    assert missing == []
