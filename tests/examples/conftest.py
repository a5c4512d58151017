"""A sandbox, and what runs the examples in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import Workspace, serve


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox) -> Workspace:
    return Workspace(server)


@pytest.fixture(autouse=True)
def _as_users_run_them(untraced: None) -> None:
    """Run the examples without coverage, because they start many processes."""
