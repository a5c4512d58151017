"""The tokens reach the API and no other place."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest

from salesmachine_async import ConnectionFailed, DeliveryError, Rejected
from salesmachine_async.access import AccessClient
from salesmachine_async.sandbox import Sandbox

from .conftest import FAST, TOKEN, client_of, serving

SECRET = "v1-secret-asdfgh"
TRACKING = "v1-token-zxcvbn"


def contact(uid: str) -> dict[str, Any]:
    return {"id": uid, "unique_id": uid}


def tokens_of(request: Any) -> tuple[str | None, str | None]:
    return request.headers.get("Authorization"), request.query.get("api_token")


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("basic", (aiohttp.encode_basic_auth(TOKEN, ""), None)),
        ("bearer", (f"Bearer {TOKEN}", None)),
        ("query", (None, TOKEN)),
    ],
)
async def test_authentication_of_both_apis(auth: Any, expected: Any) -> None:
    """The v2 token is sent by its scheme; the tracking token as the user of HTTP Basic, with its secret."""
    async with serving({"data": []}) as server:
        async with client_of(server, auth=auth, tracking_token=TRACKING, tracking_secret=SECRET) as api:
            await api.contacts.page()
            await api.ping()
            await api.request("GET", "/v1/anything")
        assert tokens_of(server.seen[0]) == expected
        basic = aiohttp.encode_basic_auth(TRACKING, SECRET)
        assert [tokens_of(seen) for seen in server.seen[1:]] == [(basic, None)] * 2


async def test_custom_authorization_header() -> None:
    """An Authorization header of the caller replaces the client's."""
    async with serving({"data": []}) as server, client_of(server) as api:
        await api.request("GET", "/v2/Contacts", headers={"Authorization": "Token x"})
        assert tokens_of(server.seen[0]) == ("Token x", None)


@pytest.mark.parametrize("auth", ["basic", "bearer", "query"])
@pytest.mark.parametrize(
    "following",
    ["http://evil.example/v2/Contacts?offset=1", "//evil.example/x", "https://127.0.0.1/x", "ftp://x", "http://[x"],
)
async def test_another_host_receives_no_request(auth: Any, following: str) -> None:
    """A next page on another host raises, after all items before it."""
    async with serving({"data": [contact("1")], "pagination": {"next": following}}) as server:
        async with client_of(server, auth=auth) as api:
            items = aiter(api.contacts.list())
            assert (await anext(items)).id == "1"
            with pytest.raises(ConnectionFailed, match="on another host") as caught:
                await anext(items)
        assert len(server.seen) == 1
        assert TOKEN not in repr(caught.value)


async def test_another_port_is_another_host() -> None:
    """A second server on the same machine receives no request."""
    async with serving({"data": []}) as other:
        async with serving({"data": [], "pagination": {"next": f"{other.url}/v2/Contacts"}}) as server:
            async with client_of(server) as api:
                with pytest.raises(ConnectionFailed):
                    [each async for each in api.contacts.list()]
        assert other.seen == []


@pytest.mark.parametrize("following", ["?offset=1", "/v2/Contacts?offset=1", "{url}/v2/Contacts?offset=1#x"])
async def test_next_may_be_relative(following: str) -> None:
    """A relative URL of the next page is resolved against the URL of the list."""

    def first(request: Any) -> Any:
        from aiohttp import web

        url = f"http://{request.host}"
        return web.json_response({"data": [contact("1")], "pagination": {"next": following.format(url=url)}})

    async with serving(first, {"data": [contact("2")]}) as server, client_of(server) as api:
        assert [each.id async for each in api.contacts.list()] == ["1", "2"]
        assert server.seen[1].path_qs == "/v2/Contacts?offset=1"


async def test_next_with_credentials_in_it() -> None:
    """A token in the URL of the next page is replaced by the client's; a user in it is removed."""

    def first(request: Any) -> Any:
        from aiohttp import web

        following = f"http://user:pass@{request.host}/v2/Contacts?api_token=other&offset=1"
        return web.json_response({"data": [], "pagination": {"next": following}})

    async with serving(first, {"data": []}) as server, client_of(server, auth="query") as api:
        assert [each async for each in api.contacts.list()] == []
        assert tokens_of(server.seen[1]) == (None, TOKEN)


async def test_cycle_of_pages_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A cycle of pages ends the iteration, with a warning."""
    one = {"data": [contact("1")], "pagination": {"next": "/v2/Contacts?offset=1"}}
    two = {"data": [contact("2")], "pagination": {"next": "/v2/Contacts?offset=2"}}
    async with serving(one, two, one) as server, client_of(server) as api:
        assert [each.id async for each in api.contacts.list()] == ["1", "2", "1"]
        assert len(server.seen) == 3
    assert "cycle" in caplog.text


@pytest.mark.parametrize("auth", ["basic", "bearer", "query"])
async def test_tokens_are_never_shown(auth: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No token is in a repr, an error, the server's message or a log line, also when the server quotes it."""
    caplog.set_level(logging.DEBUG)

    def quoting(request: Any) -> Any:
        from aiohttp import web

        return web.json_response({"error": f"bad {request.url} {dict(request.headers)}"}, status=400)

    shown = ""
    async with serving(quoting) as server:
        api = client_of(server, auth=auth, tracking_token=TRACKING, tracking_secret=SECRET, retry=None)
        for call in (api.contacts.page, api.ping, lambda: api.request("POST", "/v2/x", json={"x": 1})):
            with pytest.raises(Rejected) as caught:
                await call()
            shown += f"{caught.value!r} {caught.value} {caught.value.server_message} {vars(caught.value)}"
        await api.aclose()
        async with client_of(server, auth=auth, retry=None) as api:
            url = server.url
            shown += repr(api) + repr(vars(api)) + repr(api._service._credentials)
    async with AccessClient(TOKEN, base_url=url, auth=auth, retry=None) as api:
        with pytest.raises(DeliveryError) as failed:
            await api.contacts.page()
        shown += repr(failed.value) + str(failed.value.__cause__) + str(failed.value.__context__)
    basic = aiohttp.encode_basic_auth(TOKEN, "").split()[1]
    for secret in (TOKEN, TRACKING, SECRET, basic, aiohttp.encode_basic_auth(TRACKING, SECRET).split()[1]):
        assert secret not in shown + caplog.text
    assert "***" in shown


async def test_a_page_does_not_show_where_the_next_one_is() -> None:
    """The URL of the next page is not in the repr of a page, because a server may put the token into it."""
    async with Sandbox() as sandbox, AccessClient(TOKEN, base_url=sandbox.url, retry=FAST) as api:
        for n in range(2):
            await api.contacts.create_or_update(n)
        page = await api.contacts.page(limit=1)
        assert page.next is not None
        assert "next" not in repr(page)
        assert page.raw["pagination"] == {"next": page.next}
        assert page.extra == {}
