"""Imports between the parts of the package point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import salesmachine_async

PACKAGE = Path(salesmachine_async.__file__).parent
# Modules that every part may import, because they import only each other.
WORDS = {"_green", "_log", "_version", "errors", "policy", "report"}
AGENT = {*WORDS, "_arguments", "_core", "_http", "_delivery", "_process", "_spool", "_uwsgi", "agent", "tracker"}
# Each part and the parts it may import. `_core` and `sandbox` have stricter tests of their own.
MAY_IMPORT = {
    "_green": set[str](),
    "_log": set[str](),
    "_version": set[str](),
    "errors": set[str](),
    "policy": {"errors"},
    "report": {"errors"},
    "_core": {"errors", "policy", "report"},
    "_http": {*WORDS, "_core"},
    "_delivery": {*WORDS, "_core", "_http", "_process", "_spool"},
    "_spool": {*WORDS, "_core", "_process"},
    "_arguments": {*WORDS, "_core", "_http"},
    "_process": {"_log", "_uwsgi"},
    "_uwsgi": set[str](),
    "scrubbing": {"errors"},
    "tracker": {"_log"},
    "agent": AGENT - {"agent"},
    "_background": AGENT,
    "threaded": {*AGENT, "_background"},
    "access": {*WORDS, "_core", "_http"},
    "sandbox": set[str](),
    "integrations": {*AGENT, "_background", "threaded"},
    "testing": {*AGENT, "_background", "threaded", "access", "integrations", "sandbox"},
    "relay": {*WORDS, "_core", "_delivery"},
    "engines": {*WORDS, "_core", "_process", "relay"},
    "cli": {*AGENT, "access", "engines", "relay", "sandbox"},
}


def parts(source: str) -> Iterator[str]:
    """Yield the parts of the package that a module imports, also in functions and for its types."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A public name counts as the agent: `from salesmachine_async import Batching`.
            below = [alias.name if (PACKAGE / alias.name).is_dir() else "agent" for alias in node.names]
            names = (
                [f"{node.module}.{name}" for name in below]
                if node.module == "salesmachine_async"
                else [f"{node.module}"]
            )
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "salesmachine_async" and rest:
                yield rest.partition(".")[0]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    """No part imports one that is built on it."""
    files = sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]
    for path in files:
        assert set(parts(path.read_text())) - {part} <= MAY_IMPORT[part], path


def test_every_part_has_a_row() -> None:
    """A new module or folder needs a row in the table."""
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - set(MAY_IMPORT) == {"__init__", "__main__"}


def test_every_form_of_import_is_seen() -> None:
    """The check finds every form of an import statement."""
    source = (
        "import salesmachine_async.access.client\nfrom salesmachine_async import cli, Agent\n"
        "from salesmachine_async.sandbox import Fault\ndef f():\n    from salesmachine_async._core.batch import Batch\n"
    )
    assert set(parts(source)) == {"access", "cli", "agent", "sandbox", "_core"}
