"""The tracking calls in the API's documentation, made with the agent and found in the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from salesmachine_async import (
    Agent,
    DeliveryError,
    RateLimited,
    Rejected,
    Retry,
    ServerFailure,
    Unauthorized,
)
from salesmachine_async.access import AccessClient
from salesmachine_async.sandbox import Fault, Sandbox

from .conftest import TOKEN

PERSON = {
    "email": "elon@teslamotors.com",
    "name": "Elon Musk",
    "gender": "male",
    "mrr": 99,
    "account_uid": "78910",
}
VISIT = {
    "account_uid": "78910",
    "visit_url": "/home",
    "visit_ip": "203.0.113.7",
    "visit_agent": "Mozilla/5.0 (X11; Linux x86_64)",
}


@pytest.fixture
async def agent(sandbox: Sandbox) -> AsyncIterator[Agent]:
    async with Agent(TOKEN, "secret", base_url=sandbox.url, retry=Retry(wait_initial=0.001, wait_max=0.01)) as agent:
        yield agent


async def test_contact(agent: Agent, sandbox: Sandbox) -> None:
    """The documented contact arrives with its recommended, optional and revenue fields."""
    assert agent.contact("123456", {**PERSON, "title": "Mr", "registered_at": 1564192347, "position": "CEO"})
    assert (await agent.flush()).ok
    contact = sandbox.contact("123456")
    assert contact["params"] == {**PERSON, "title": "Mr", "registered_at": 1564192347, "position": "CEO"}
    assert contact["accounts"] == ["78910"]


async def test_account(agent: Agent, sandbox: Sandbox) -> None:
    """The documented account arrives with its revenue."""
    fields = {"name": "Tesla Motors", "employee_count": 12000, "website_url": "http://www.teslamotors.com", "mrr": 999}
    agent.account("78910", fields)
    assert (await agent.flush()).ok
    assert sandbox.account("78910")["params"] == fields


async def test_a_contact_of_several_accounts(agent: Agent, sandbox: Sandbox) -> None:
    """A contact can belong to several accounts."""
    agent.contact("1", {"account_uid": "a"})
    agent.contact("1", {"account_uid": "b"})
    assert (await agent.flush()).ok
    assert sandbox.contact("1")["accounts"] == ["a", "b"]


async def test_event(agent: Agent, sandbox: Sandbox) -> None:
    """The documented event arrives."""
    fields = {"account_uid": "78910", "display_name": "Registration"}
    agent.track("123456", "user_registration", fields)
    assert (await agent.flush()).ok
    (event,) = sandbox.events()
    assert (event["event_uid"], event["params"], event["account_uid"]) == ("user_registration", fields, "78910")


async def test_pageview(agent: Agent, sandbox: Sandbox) -> None:
    """A pageview is an event named pageview."""
    agent.pageview("123456", VISIT)
    assert (await agent.flush()).ok
    (event,) = sandbox.events()
    assert (event["event_uid"], event["params"]) == ("pageview", VISIT)


async def test_alias(agent: Agent, sandbox: Sandbox) -> None:
    """After an alias both uids mean the same contact, with the fields and events of both."""
    agent.contact("123456", {"name": "Elon"})
    agent.contact("789", {"email": "e@x.y"})
    agent.track("789", "login")
    agent.alias("123456", "789")
    agent.track("123456", "logout")
    assert (await agent.flush()).ok
    contact = sandbox.contact("789")
    assert (contact["uids"], contact["params"]) == (["123456", "789"], {"name": "Elon", "email": "e@x.y"})
    assert [each["event_uid"] for each in contact["events"]] == ["login", "logout"]


async def test_batch(agent: Agent, sandbox: Sandbox) -> None:
    """Events, accounts and contacts share a batch."""
    agent.account("78910", {"display_name": "Acme", "employee_count": 12})
    agent.track("123456", "user_registration", {"account_uid": "78910"})
    agent.track("123456", "payment", {"account_uid": "78910"})
    assert (await agent.flush()).ok
    assert [(each["path"], each["items"]) for each in sandbox.requests()] == [("/v1/batch", 3)]


async def test_ping_and_basic_authentication(agent: Agent, sandbox: Sandbox) -> None:
    """The token is the user of HTTP Basic authentication."""
    await agent.ping()
    (request,) = sandbox.requests(TOKEN)
    assert (request["path"], request["status"]) == ("/v1/ping", 200)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (401, Unauthorized),
        (404, Rejected),
        (405, Rejected),
        (406, Rejected),
        (429, RateLimited),
        (500, ServerFailure),
        (503, ServerFailure),
    ],
)
async def test_documented_errors(sandbox: Sandbox, status: int, error: type[DeliveryError]) -> None:
    """Every documented error status raises its own error class."""
    sandbox.faults([Fault(status=status, times=None)])
    async with AccessClient(TOKEN, base_url=sandbox.url, retry=None) as api:
        for call in (api.ping, lambda: api.contacts.create_or_update("1"), api.contacts.page):
            with pytest.raises(error) as caught:
                await call()
            assert caught.value.status == status


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_the_documents_say_to_try_again_is_tried_again(agent: Agent, sandbox: Sandbox, status: int) -> None:
    """A 503 and a 429 delay the delivery; no message is lost."""
    sandbox.faults([Fault(status=status, times=2)])
    agent.track("1", "x")
    report: Any = await agent.flush()
    assert report.ok
    assert len(sandbox.events()) == 1
