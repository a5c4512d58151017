"""The law of the core: no event loop, no sockets, no clock, no randomness; and imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import salesmachine_async._core

CORE = Path(salesmachine_async._core.__file__).parent
MODULES = sorted(CORE.rglob("*.py"))

FORBIDDEN = {
    "aiohttp",
    "anyio",
    "asyncio",
    "backoff",
    "concurrent",
    "http",
    "importlib",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "sched",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "time",
    "urllib",
}
# Of these modules only some names are harmless.
ONLY: dict[str, set[str]] = {
    "threading": {"RLock", "get_ident"},
    "uuid": {"UUID"},
    # The classes; their `now` and `today` are forbidden below.
    "datetime": {"UTC", "date", "datetime", "time", "timedelta", "timezone", "tzinfo"},
    # `from pathlib import Path` could read files.
    "pathlib": {"PurePath"},
}
# What the core may know of its own package.
OWN = {"_core", "errors", "policy", "report"}
CLOCKS = {"now", "utcnow", "today", "get_running_loop", "monotonic", "perf_counter"}
BUILTINS = {"__import__", "open", "input", "print", "eval", "exec"}


def offences(source: str) -> Iterator[str]:
    """Yield what in a module's text is against the law, in words."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield from _of_import(alias.name, None)
            case ast.ImportFrom(level=level) if level > 0:
                yield "a relative import"
            case ast.ImportFrom(module=str(module), names=names):
                for alias in names:
                    yield from _of_import(module, alias.name)
            case ast.Attribute(attr=name) if name in CLOCKS:
                yield f"reads a clock: .{name}"
            case ast.Name(id=name) if name in BUILTINS:
                yield f"uses {name}"
            case ast.AsyncFunctionDef(name=name):
                yield f"async def {name}"
            case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield "awaits"
            case _:
                pass


def _of_import(module: str, name: str | None) -> Iterator[str]:
    top, _, rest = module.partition(".")
    if top in FORBIDDEN:
        yield f"imports {top}"
    elif top == "salesmachine_async":
        room = rest.partition(".")[0] or name
        if room not in OWN:
            yield f"imports salesmachine_async.{room}"
    elif top in ONLY and name not in ONLY[top]:
        yield f"imports {top}.{name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_core_modules_keep_the_law(path: Path) -> None:
    """No module of the core imports or calls what acts, waits, reads a clock or rolls dice."""
    assert list(offences(path.read_text())) == []


def test_the_law_is_read_from_every_module() -> None:
    """The check sees the modules of the core: it would be worthless on an empty folder."""
    names = {path.name for path in MODULES}
    assert {"message.py", "jsonable.py", "batch.py", "accumulator.py", "barrier.py", "response.py", "retry.py"} <= names


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("import asyncio", "imports asyncio"),
        ("import asyncio.tasks as harmless", "imports asyncio"),
        ("from time import monotonic", "imports time"),
        ("from random import random", "imports random"),
        ("import os.path", "imports os"),
        ("import concurrent.futures", "imports concurrent"),
        ("def f():\n    import socket", "imports socket"),
        ("if TYPE_CHECKING:\n    import aiohttp", "imports aiohttp"),
        ("from threading import Thread", "imports threading.Thread"),
        ("import threading", "imports threading.None"),
        ("from uuid import uuid4", "imports uuid.uuid4"),
        ("import datetime", "imports datetime.None"),
        ("from datetime import datetime\ndatetime.now()", "reads a clock: .now"),
        ("from datetime import datetime as d\nclock = d.utcnow", "reads a clock: .utcnow"),
        ("from datetime import date\ndate.today()", "reads a clock: .today"),
        ("from salesmachine_async import Agent", "imports salesmachine_async.Agent"),
        ("from salesmachine_async import _delivery", "imports salesmachine_async._delivery"),
        ("from salesmachine_async._delivery.sender import Sender", "imports salesmachine_async._delivery"),
        ("from salesmachine_async.agent import Agent", "imports salesmachine_async.agent"),
        ("import salesmachine_async.sandbox", "imports salesmachine_async.sandbox"),
        ("from salesmachine_async.cli import main", "imports salesmachine_async.cli"),
        ("from . import batch", "a relative import"),
        ("__import__('asyncio')", "uses __import__"),
        ("open('x')", "uses open"),
        ("async def f(): ...", "async def f"),
    ],
)
def test_an_offence_is_found(source: str, offence: str) -> None:
    """The check finds every way in which a module can break the rule."""
    assert offence in list(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "from threading import RLock, get_ident",
        "from uuid import UUID",
        "from datetime import UTC, datetime\ndef f(now: datetime) -> bool: return now.tzinfo is UTC",
        "from salesmachine_async._core.batch import Batch",
        "from salesmachine_async.errors import InvalidMessage",
        "import orjson",
    ],
)
def test_what_is_allowed_is_no_offence(source: str) -> None:
    """The check accepts the imports the core lives on."""
    assert list(offences(source)) == []
