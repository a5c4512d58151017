"""The pytest plug-in with two fixtures. Every run of pytest loads it, so it imports only pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Sandbox
    from salesmachine_async.testing import Recorder, Workspace


FIXTURES = ("salesmachine", "salesmachine_sandbox")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the tracking plan of `salesmachine_sandbox.assert_plan()`."""
    parser.addini("salesmachine_plan", "Tracking plan (JSON) of salesmachine_sandbox.assert_plan()", type="paths")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Set these fixtures up before all others, so that an application started by a fixture finds the environment."""
    names: list[str] = getattr(item, "fixturenames", [])
    for name in FIXTURES:
        if name in names:
            names.remove(name)
            names.insert(0, name)


@pytest.fixture
def salesmachine() -> Iterator[Recorder]:
    """Record the messages of all agents of this process in memory; no network is used."""
    from salesmachine_async.testing import capture  # noqa: PLC0415 (see above)

    with capture() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def _salesmachine_server() -> Iterator[Sandbox]:  # pyright: ignore[reportUnusedFunction]
    from salesmachine_async._background import flush_all  # noqa: PLC0415
    from salesmachine_async.testing import serve  # noqa: PLC0415

    with serve() as sandbox:
        yield sandbox
        # Messages that an application still holds would be retried after the server has stopped, and delay the exit.
        flush_all(1.0)


@pytest.fixture
def salesmachine_sandbox(
    _salesmachine_server: Sandbox, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> Workspace:
    """Return a workspace on a real local server, to which the environment variables lead agents."""
    from salesmachine_async.testing import Workspace  # noqa: PLC0415

    plans = pytestconfig.getini("salesmachine_plan")
    workspace = Workspace(_salesmachine_server, plans[0] if plans else None)
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    return workspace
