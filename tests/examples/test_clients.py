"""The examples under the test clients of their frameworks, with our fixtures, as a user tests an application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer
from litestar.testing import TestClient as LitestarClient
from starlette.testclient import TestClient as StarletteClient

from examples import aiohttp_app, fastapi_app, litestar_app, starlette_app
from salesmachine_async.testing import Recorder, Workspace, capture

PATH = "/users/u1/orders/9"


@pytest.fixture(params=[fastapi_app, starlette_app, litestar_app], ids=["fastapi", "starlette", "litestar"])
def application(request: pytest.FixtureRequest) -> Any:
    return request.param.app


@pytest.fixture(params=[True, False], ids=["with", "without"])
def client(request: pytest.FixtureRequest, application: Any) -> Iterator[Any]:
    """A client that runs the lifespan, and one that does not."""
    kind: Any = LitestarClient if application is litestar_app.app else StarletteClient
    client = kind(application)
    if request.param:
        with client:
            yield client
    else:
        yield client


def test_an_order_is_recorded(client: Any, salesmachine: Recorder) -> None:
    """The client fixture comes first, and the application finds the environment."""
    assert client.post(PATH).is_success
    salesmachine.assert_tracked("order_created", contact_uid="u1", order="9")
    salesmachine.assert_tracked("pageview", contact_uid="u1")


def test_an_order_arrives(client: Any, salesmachine_sandbox: Workspace) -> None:
    """An order arrives through an outage, also after the loop of its request has ended."""
    salesmachine_sandbox.faults(503)
    assert client.post(PATH).is_success
    assert salesmachine_sandbox.wait_for("order_created", contact_uid="u1", order="9")


async def test_an_order_of_aiohttp_is_recorded_and_arrives(salesmachine_sandbox: Workspace) -> None:
    """The order arrives on the loop of the test."""
    async with AiohttpClient(TestServer(aiohttp_app.create_app())) as client:
        assert (await client.post(PATH)).status == 200
        assert await salesmachine_sandbox.wait_for_async("order_created", contact_uid="u1", order="9")
        with capture() as recorder:
            assert (await client.post(PATH)).status == 200
        recorder.assert_tracked("order_created", contact_uid="u1", order="9")
