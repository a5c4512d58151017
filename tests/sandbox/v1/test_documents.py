"""The requests in the API documentation."""

from __future__ import annotations

import pytest

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import Client

CONTACT = (
    '{"contact_uid":"123456", "params" : { "email":"elon@teslamotors.com", "name":"Elon Musk", "gender":"male",'
    ' "mrr": 99, "account_uid":"78910" }}'
)
ACCOUNT = '{"account_uid":"78910", "params" : {"name":"Tesla Motors", "employee_count":12000,"mrr":999}}'
EVENT = (
    '{"contact_uid":"123456", "event_uid" : "user_registration", "params" : {"account_uid" : "78910",'
    ' "display_name" : "Registration"}}'
)
PAGEVIEW = (
    '{"contact_uid":"123456", "event_uid" : "pageview", "params" : {"account_uid" : "78910",'
    ' "visit_url" : "http://myproduct.com/onboarding", "visit_ip" : "XX.XX.XX.XX",'
    ' "visit_agent" : "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}}'
)
ALIAS = '{"contact_uid":"123456", "alias" : "789"}'
BATCH = (
    '[{"account_uid":"78910", "params" : {"display_name":"Acme", "employee_count":12}, "method":"account"},'
    ' {"contact_uid":"123456", "event_uid" : "user_registration", "params" : {"account_uid" : "78910",'
    ' "display_name" : "Registration"}, "method":"event"}, {"contact_uid":"123456", "event_uid" : "payment",'
    ' "params" : {"account_uid" : "78910", "display_name" : "Payment"}, "method":"event"}]'
)


async def test_documented_curl_calls(client: Client, sandbox: Sandbox) -> None:
    """Every documented curl example is accepted, and together they produce the expected state."""
    assert (await client.send("/v1/ping", b"")).status == 200
    assert (await client.send("/v1/contact", CONTACT)).status == 200
    assert (await client.send("/v1/account", ACCOUNT)).status == 200
    assert (await client.send("/v1/track/event", EVENT)).status == 200
    assert (await client.send("/v1/track/event", PAGEVIEW)).status == 200
    assert (await client.send("/v1/alias", ALIAS)).status == 200
    assert (await client.send("/v1/batch", BATCH)).status == 201
    contact = sandbox.contact("789")
    assert contact["contact_uid"] == "123456"
    assert contact["params"]["name"] == "Elon Musk"
    assert [event["event_uid"] for event in contact["events"]] == [
        "user_registration",
        "pageview",
        "user_registration",
        "payment",
    ]
    assert sandbox.account("78910") == {
        **sandbox.accounts()[0],
        "contacts": ["123456"],
        "params": {"name": "Tesla Motors", "employee_count": 12, "mrr": 999, "display_name": "Acme"},
    }
    assert sandbox.summary() == {
        "workspaces": 1,
        "contacts": 1,
        "accounts": 1,
        "events": 4,
        "pageviews": 1,
        "aliases": 1,
        "accepted": 8,
        "duplicates": 0,
        "rejected": 0,
        "batches": 1,
        "evicted": 0,
        "bytes": sum(map(len, (CONTACT, ACCOUNT, EVENT, PAGEVIEW, ALIAS, BATCH))),
        "requests": {"200": 6, "201": 1},
    }


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/contact", CONTACT), ("/v1/account", ACCOUNT), ("/v1/track/event", EVENT)]
)
async def test_later_documents_pass_the_token_in_the_query(client: Client, path: str, body: str) -> None:
    """The newer documentation shows `?api_token=` without Authorization."""
    assert (await client.of(None).send(f"{path}?api_token=abc", body)).status == 200
