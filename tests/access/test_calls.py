"""Errors, retries, time limits, cancellation and lifecycle of the client."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from salesmachine_async import (
    AgentClosed,
    CertificateRejected,
    ConfigError,
    ConnectionFailed,
    RateLimited,
    Rejected,
    RequestTimeout,
    Retry,
    ServerFailure,
    Timeouts,
    Unauthorized,
    WrongLoop,
)
from salesmachine_async.access import AccessClient, Paths
from salesmachine_async.sandbox import Fault, Sandbox

from .conftest import FAST, TOKEN, client_of, serving


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Rejected),
        (400, Rejected),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, Rejected),
        (413, Rejected),
        (422, Rejected),
        (429, RateLimited),
        (500, ServerFailure),
        (503, ServerFailure),
    ],
)
async def test_errors_have_status_and_message(status: int, kind: Any) -> None:
    """Each error status raises its own error class, with the server's message."""
    async with serving((status, {"error": "because"})) as server, client_of(server, retry=None) as api:
        with pytest.raises(kind) as caught:
            await api.contacts.page()
        assert (caught.value.status, caught.value.server_message) == (status, "because")
        assert caught.value.__context__ is None
        assert len(server.seen) == 1


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(status=429), Fault(drop="after")])
async def test_idempotent_calls_are_repeated(api: AccessClient, sandbox: Sandbox, fault: Fault) -> None:
    """Reads, deletes and updates are retried after a failure."""
    for call in (
        lambda: api.contacts.create_or_update("1", {"x": 1}),
        lambda: api.contacts.page(),
        lambda: api.ping(),
        lambda: api.request("GET", "/v2/Contacts"),
    ):
        sandbox.faults([fault])
        await call()
        assert sandbox.faults_left() == []
    note = await api.notes.create("x")
    sandbox.faults([fault])
    await api.notes.delete(note.id)
    assert (await api.notes.page()).items == ()


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(drop="after")])
async def test_creation_is_not_retried(api: AccessClient, sandbox: Sandbox, fault: Fault) -> None:
    """Creating a note or an event is not retried, because the repetition could create a second one."""
    for call in (
        lambda: api.notes.create("x"),
        lambda: api.events.create("1", "x"),
        lambda: api.request("POST", "/v2/Notes", json={"body": "x"}),
        lambda: api.request("PATCH", "/v2/Notes", json={"body": "x"}),
    ):
        before = len(sandbox.requests())
        sandbox.faults([fault])
        with pytest.raises((ServerFailure, ConnectionFailed)):
            await call()
        assert len(sandbox.requests()) == before + 1


async def test_creation_answered_429_is_retried(api: AccessClient, sandbox: Sandbox) -> None:
    """A 429 is always retried, because it means that nothing was done."""
    sandbox.faults([Fault(status=429, retry_after=0, times=2)])
    await api.events.create("1", "x")
    assert (len(sandbox.events()), len(sandbox.requests())) == (1, 3)


async def test_retry_after_beyond_the_timeout_is_not_waited_for(api: AccessClient, sandbox: Sandbox) -> None:
    """A permanent error is raised at once."""
    sandbox.faults([Fault(status=429, retry_after=3600, times=None)])
    with pytest.raises(RateLimited) as caught:
        await api.contacts.page()
    assert caught.value.retry_after == 3600
    assert len(sandbox.requests()) == 1


async def test_retries_end_at_the_timeout(sandbox: Sandbox) -> None:
    """The last error is raised when the retries end."""
    sandbox.faults([Fault(status=500, times=None)])
    retry = Retry(wait_initial=0.01, wait_max=0.01, timeout=0.05)
    async with AccessClient(TOKEN, base_url=sandbox.url, retry=retry) as api:
        with pytest.raises(ServerFailure):
            await api.contacts.page()
    assert len(sandbox.requests()) > 1


async def test_closed_idle_connections_are_no_failure() -> None:
    """A kept connection that the server has closed is replaced at once, even without a retry policy."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data":[]}')
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, AccessClient(TOKEN, base_url=f"http://127.0.0.1:{port}", retry=None) as api:
        for _ in range(3):
            assert (await api.contacts.page()).items == ()


async def test_404_to_a_repeated_delete_is_a_success() -> None:
    """A 404 to a repeated DELETE is a success; a 404 to the first DELETE is an error."""
    async with serving((500, {}), (404, {"error": "nothing"})) as server, client_of(server) as api:
        await api.contacts.delete("1")
        with pytest.raises(Rejected):
            await api.contacts.delete("1")
        assert [seen.method for seen in server.seen] == ["DELETE"] * 3


async def test_unreachable_host() -> None:
    """An unreachable host raises ConnectionFailed."""
    async with serving({}) as server:
        url = server.url
    async with AccessClient(TOKEN, base_url=url, retry=None) as api:
        with pytest.raises(ConnectionFailed):
            await api.ping()


async def test_request_timeout_is_per_attempt(sandbox: Sandbox) -> None:
    """The request timeout applies to each attempt."""
    sandbox.faults([Fault(latency=30)])
    async with AccessClient(TOKEN, base_url=sandbox.url, timeouts=Timeouts(request=0.05), retry=None) as api:
        with pytest.raises(RequestTimeout):
            await api.contacts.page()
        assert (await api.contacts.page()).items == ()


async def test_slow_body_is_a_timeout_too(sandbox: Sandbox) -> None:
    """An incomplete body is an error, which holds the status of the answer."""
    sandbox.faults([Fault(slow=30)])
    async with AccessClient(TOKEN, base_url=sandbox.url, timeouts=Timeouts(request=0.2), retry=None) as api:
        with pytest.raises(RequestTimeout) as caught:
            await api.contacts.page()
        assert caught.value.status == 200


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{", b"\xff"])
async def test_body_that_is_not_json_is_a_failure(body: bytes) -> None:
    """A 200 with a body that is not JSON is an error that does not quote the body."""
    async with serving((200, body)) as server, client_of(server) as api:
        with pytest.raises(ConnectionFailed, match="not JSON") as caught:
            await api.contacts.page()
        assert caught.value.__context__ is None
        assert len(server.seen) == 1


@pytest.mark.parametrize("data", [None, [], {}, {"data": {}}, "x", 7])
async def test_body_that_is_not_a_list_is_a_failure(data: Any) -> None:
    """A body that is not a list raises an error."""
    async with serving((200, data)) as server, client_of(server) as api:
        with pytest.raises(ConnectionFailed, match="not a list"):
            await api.contacts.page()


async def test_body_that_is_not_an_object_is_a_failure() -> None:
    """A body that is not an object raises an error; an object within `data` is accepted."""
    async with serving([], {"data": {"id": 7}}) as server, client_of(server) as api:
        with pytest.raises(ConnectionFailed, match="not an object with an id"):
            await api.contacts.get("1")
        assert (await api.contacts.get("1")).id == "7"


async def test_an_answer_without_a_body() -> None:
    """A 204 is accepted where no body is expected."""
    async with serving((204, b"")) as server, client_of(server) as api:
        await api.contacts.delete("1")
        assert (await api.request("PUT", "/v2/x", json={})).data is None


async def test_endless_body_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body above MAX_ANSWER_BYTES is cut off."""
    monkeypatch.setattr("salesmachine_async.access.calls.MAX_ANSWER_BYTES", 10_000)
    async with serving((200, b" " * 100_000)) as server, client_of(server) as api:
        with pytest.raises(ConnectionFailed, match="too large"):
            await api.contacts.page()
        assert len(server.seen) == 1


async def test_bodies_are_as_documented() -> None:
    """A tracking request of v1 holds only the documented keys; a read has no body."""
    async with serving({"status": "success", "data": []}) as server, client_of(server) as api:
        await api.contacts.create_or_update("1", {"x": 1})
        await api.events.create("1", "x")
        await api.ping()
        await api.contacts.page()
        assert server.bodies == [
            b'{"contact_uid":"1","params":{"x":1}}',
            b'{"contact_uid":"1","event_uid":"x","params":{}}',
            b"",
            b"",
        ]
        assert [seen.headers.get("Content-Type") for seen in server.seen] == ["application/json"] * 3 + [None]


async def test_redirects_are_not_followed() -> None:
    """A redirect is not followed, because it could lead to another host, which must not receive the token."""
    redirect = lambda request: web.Response(status=302, headers={"Location": "http://evil.example/?api_token=x"})  # noqa: E731
    async with serving(redirect) as server, client_of(server, retry=None) as api:
        with pytest.raises(Rejected) as caught:
            await api.contacts.page()
        assert "api_token" not in str(caught.value)
        assert len(server.seen) == 1


async def test_custom_ssl_context() -> None:
    """An SSL context with a private certificate authority is used; without it the certificate is not accepted."""
    authority, ours = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(ours)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"status": "success"})

    application = web.Application()
    application.router.add_post("/v1/ping", answer)
    server = TestServer(application, host="localhost", scheme="https")
    await server.start_server(ssl=theirs)
    async with server:
        url = f"https://localhost:{server.port}"
        async with AccessClient(TOKEN, base_url=url, ssl_context=ours) as api:
            await api.ping()
        async with AccessClient(TOKEN, base_url=url, retry=None) as api:
            with pytest.raises(CertificateRejected):
                await api.ping()


async def test_calls_go_through_a_proxy() -> None:
    """Requests go through the configured proxy."""
    async with serving({"data": []}) as proxy:
        url = "http://localhost:9"
        async with AccessClient(TOKEN, base_url=url, proxy=proxy.url, retry=None) as api:
            assert (await api.contacts.page()).items == ()
        assert proxy.seen[0].raw_path == "http://localhost:9/v2/Contacts"


async def test_calls_wait_for_their_turn(sandbox: Sandbox) -> None:
    """At most max_connections requests run at once, and each gets its answer."""
    timeouts = Timeouts(connect=0.5, request=5)
    async with AccessClient(TOKEN, base_url=sandbox.url, max_connections=2, timeouts=timeouts) as api:
        await asyncio.gather(*(api.contacts.create_or_update(n) for n in range(30)))
    assert len(sandbox.contacts()) == 30


async def test_cancellation(api: AccessClient, sandbox: Sandbox) -> None:
    """A cancelled call ends at once, and the client remains usable."""
    sandbox.faults([Fault(latency=30)])
    task = asyncio.create_task(api.contacts.page())
    while sandbox.faults_left():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await api.contacts.page()).items == ()


async def test_cancellation_while_waiting_for_a_retry(sandbox: Sandbox) -> None:
    """The wait before a retry can be cancelled."""
    sandbox.faults([Fault(status=429, retry_after=30, times=None)])
    async with AccessClient(TOKEN, base_url=sandbox.url, retry=Retry()) as api:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await api.contacts.page()


async def test_closed_client_raises(sandbox: Sandbox) -> None:
    """A closed client raises AgentClosed, and closing twice is allowed."""
    api = AccessClient(TOKEN, base_url=sandbox.url)
    await api.ping()
    await api.aclose()
    await api.aclose()
    with pytest.raises(AgentClosed):
        await api.ping()
    assert repr(api) == f"<AccessClient [closed] {sandbox.url}>"


async def test_a_client_that_was_not_used_has_nothing_to_close(sandbox: Sandbox) -> None:
    """Entering the context opens no connection."""
    async with AccessClient(TOKEN, base_url=sandbox.url):
        pass
    assert sandbox.requests() == []


@pytest.mark.slow
async def test_closing_gives_back_the_connections(sandbox: Sandbox) -> None:
    """A client that is used and closed leaves no ResourceWarning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with AccessClient(TOKEN, base_url=sandbox.url) as api:
            await api.ping()
        del api
        gc.collect()


def test_no_event_loop_is_needed_to_construct() -> None:
    """A client made without a loop belongs to the loop of its first call."""
    api = AccessClient(TOKEN, base_url="http://127.0.0.1:9", retry=None)

    async def call() -> None:
        with pytest.raises(ConnectionFailed):
            await api.ping()

    async def call_and_close() -> None:
        with pytest.raises(WrongLoop):
            await api.ping()
        await api.aclose()

    asyncio.run(call())
    asyncio.run(call_and_close())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"token": ""}, "no API token"),
        ({"token": "a:b"}, "colon"),
        ({"token": "a b"}, "visible ASCII"),
        ({"tracking_token": "a b"}, "visible ASCII"),
        ({"tracking_secret": "ü"}, "visible ASCII"),
        ({"auth": "digest"}, "auth must be one of basic, bearer, query"),
        ({"base_url": "http://example.com"}, "http:// would send"),
        ({"base_url": "ftp://example.com"}, "https://"),
        ({"max_connections": 0}, "max_connections"),
        ({"ssl_context": False}, "ssl_context must be"),
        ({"proxy": "socks5://x"}, "proxy"),
    ],
)
def test_settings_are_checked(options: Any, problem: str) -> None:
    """An unusable argument raises ConfigError at construction."""
    with pytest.raises(ConfigError, match=problem):
        AccessClient(**{"token": "x", "base_url": "https://example.com", **options})


@pytest.mark.parametrize("path", ["v2/x", "//x", "/x/", "/x?y", "/x y", "/ü", "/../x", "/%41", None])
def test_paths_are_checked(path: Any) -> None:
    """An unusable path in Paths raises ConfigError."""
    with pytest.raises(ConfigError, match=r"Paths\.contacts"):
        Paths(contacts=path)


def test_tokens_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token both tokens come from the environment; the error names a missing variable."""
    monkeypatch.delenv("SALESMACHINE_ACCESS_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="SALESMACHINE_ACCESS_TOKEN"):
        AccessClient()


@pytest.mark.parametrize(
    ("token", "variables", "used"),
    [
        (None, {"SALESMACHINE_ACCESS_TOKEN": "v2", "SALESMACHINE_API_TOKEN": "v1"}, ["v2", "v1"]),
        (None, {"SALESMACHINE_ACCESS_TOKEN": "v2"}, ["v2", "v2"]),
        ("mine", {"SALESMACHINE_ACCESS_TOKEN": "v2", "SALESMACHINE_API_TOKEN": "v1"}, ["mine", "mine"]),
    ],
)
async def test_which_token_is_used(
    monkeypatch: pytest.MonkeyPatch, token: Any, variables: dict[str, str], used: list[str]
) -> None:
    """A token passed as an argument is never mixed with one of the environment."""
    from salesmachine_async.sandbox.http.auth import workspace_of

    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with Sandbox() as sandbox:
        monkeypatch.setenv("SALESMACHINE_API_URL", sandbox.url)
        async with AccessClient(token, retry=FAST) as api:
            await api.contacts.page()
            await api.ping()
        assert [each["workspace"] for each in sandbox.requests()] == [workspace_of(each) for each in used]
