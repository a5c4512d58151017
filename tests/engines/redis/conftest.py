"""A real server of each kind, and a queue of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.redis_servers import RedisServer, binary, new_name, servers


@pytest.fixture(scope="session", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that tests share, each with a queue of its own."""
    yield from servers(request.param)


@pytest.fixture(params=["redis", "valkey"])
def start_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., RedisServer]]:
    """Start a server for this test alone, with these options."""
    if binary(request.param) is None:
        pytest.skip(f"there is no {request.param}-server")
    started: list[RedisServer] = []

    def start(*options: str, sentinel: Path | None = None) -> RedisServer:
        started.append(RedisServer(request.param, *options, sentinel=sentinel))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def name() -> str:
    """The name of an empty queue."""
    return new_name()
