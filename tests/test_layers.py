"""Which room may know which: imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import salesmachine_async

PACKAGE = Path(salesmachine_async.__file__).parent
# What everybody may know: words without works.
WORDS = {"_log", "_version", "errors", "policy", "report"}
AGENT = {*WORDS, "_core", "_http", "_delivery", "_spool", "agent", "tracker"}
# `_core` and `sandbox` have stricter tests of their own, beside the others of these rooms.
MAY_KNOW = {
    "_core": {"errors", "policy", "report"},
    "_http": {*WORDS, "_core"},
    "_delivery": {*WORDS, "_core", "_http"},
    "_spool": {*WORDS, "_core"},
    "tracker": {"_log"},
    "agent": AGENT - {"agent"},
    "threaded": AGENT,
    "access": {*WORDS, "_core", "_http"},
    "sandbox": set[str](),
    "integrations": {*AGENT, "threaded"},
    "testing": {*AGENT, "threaded", "access", "integrations", "sandbox"},
    "cli": {*AGENT, "access", "sandbox"},
}


def rooms(source: str) -> Iterator[str]:
    """Tell which rooms a module imports, also within functions and for its types."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A public name stands for the agent: `from salesmachine_async import Batching`.
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


@pytest.mark.parametrize("room", MAY_KNOW)
def test_imports_point_one_way(room: str) -> None:
    """No room knows one that is built on it."""
    files = sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]
    for path in files:
        assert set(rooms(path.read_text())) - {room} <= MAY_KNOW[room], path


def test_no_room_is_forgotten() -> None:
    """A new one needs a place in the table."""
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - set(MAY_KNOW) - WORDS == {"__init__", "__main__"}


def test_every_form_of_import_is_seen() -> None:
    """Or the check would be worthless."""
    source = (
        "import salesmachine_async.access.client\nfrom salesmachine_async import cli, Agent\n"
        "from salesmachine_async.sandbox import Fault\ndef f():\n    from salesmachine_async._core.batch import Batch\n"
    )
    assert set(rooms(source)) == {"access", "cli", "agent", "sandbox", "_core"}
