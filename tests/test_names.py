"""The package has one class for each public name, so that a name in a log line or an import leads to one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import salesmachine_async

PACKAGE = Path(salesmachine_async.__file__).parent
# The same thing in several modules.
SAME = {
    # The middleware of each framework has this name in the documentation of each.
    "SalesmachineMiddleware",
    # The statistics that the collectors of Prometheus and OpenTelemetry read; each needs only its own library.
    "HasStats",
}


def package() -> dict[str, str]:
    """Return the sources of the package by module."""
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}


def duplicates(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the modules of each public class name that several modules define."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_no_two_public_classes_have_one_name() -> None:
    """A class name is used once in the package, unless it names the same thing."""
    found = duplicates(package())
    assert {name: modules for name, modules in found.items() if name not in SAME} == {}


def test_every_exception_is_needed() -> None:
    """A name in the list of exceptions is defined by several modules."""
    assert set(duplicates(package())) >= SAME


def test_duplicates_are_found() -> None:
    """The check finds nested classes and ignores private ones."""
    sources = {"a": "class One: ...\nclass _Two: ...", "b": "def f():\n    class One: ...\nclass _Two: ..."}
    assert duplicates(sources) == {"One": ["a", "b"]}
