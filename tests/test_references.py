"""The tests and benchmarks that the documents name exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return the tests that a text names as `file.py::test` or, after one of these, as `::test`, with their files."""
    found: list[tuple[str, str]] = []
    for file, test in re.findall(r"`([\w/]*\.py)?::(\w+)`", text):
        found.append((file or found[-1][0], test))
    return found


@cache
def modules() -> tuple[Path, ...]:
    """Return all modules of the tests."""
    return tuple((ROOT / "tests").rglob("*.py"))


@cache
def functions(path: Path) -> set[str]:
    """Return the names of all functions in a module."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_tests_exist(document: str) -> None:
    """Each test that a document names is in the file that it names."""
    for file, test in named_tests((ROOT / document).read_text()):
        paths = [path for path in modules() if str(path).endswith(f"/{file}")]
        assert any(test in functions(path) for path in paths), f"{file}::{test}"


def test_named_files_exist() -> None:
    """Each file of the tests, benchmarks and examples that a document names exists."""
    text = "".join((ROOT / document).read_text() for document in DOCUMENTS)
    named = re.findall(r"`((?:tests|benchmarks|examples|docs)/[\w/]+\.\w+)`", text)
    assert named
    assert [file for file in named if "NAME" not in file and not (ROOT / file).exists()] == []


def test_names_are_read() -> None:
    """The check reads full and abbreviated names."""
    assert named_tests("`test_a.py::test_x`, `::test_y` and `b/test_c.py::test_z`") == [
        ("test_a.py", "test_x"),
        ("test_a.py", "test_y"),
        ("b/test_c.py", "test_z"),
    ]
    assert named_tests((ROOT / "docs/concepts/what-happens-when.md").read_text())
