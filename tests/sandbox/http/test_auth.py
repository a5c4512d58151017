"""Credentials, hosts, origins, media types and limits."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
from typing import Any

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.sandbox.conftest import TOKEN, Client, basic

CONTACT = {"contact_uid": "1"}


@pytest.mark.parametrize("password", ["", "secret", TOKEN, "with:colons", "é"])
async def test_any_password_is_taken(client: Client, sandbox: Sandbox, password: str) -> None:
    """The token is the user of HTTP Basic; the password is not checked."""
    encoded = base64.b64encode(f"{TOKEN}:{password}".encode()).decode()
    answer = await client.of(None).post("/v1/contact", CONTACT, headers={"Authorization": f"basic  {encoded}"})
    assert answer.status == 200
    assert sandbox.summary(TOKEN)["contacts"] == 1


async def test_token_in_the_query(client: Client, sandbox: Sandbox) -> None:
    """?api_token= is accepted as well; HTTP Basic takes precedence."""
    assert (await client.of(None).post(f"/v1/contact?api_token={TOKEN}", CONTACT)).status == 200
    assert (await client.of("basic").post("/v1/contact?api_token=query", CONTACT)).status == 200
    assert sandbox.summary(TOKEN)["contacts"] == sandbox.summary("basic")["contacts"] == 1
    assert sandbox.summary("query")["workspaces"] == 0


@pytest.mark.parametrize(
    ("path", "headers", "problem"),
    [
        ("", {}, "credentials are missing: use HTTP Basic with the API token as the user"),
        ("", basic("", "secret"), "the API token is empty"),
        ("?api_token=", {}, "the API token is empty"),
        ("?api_token=good", basic(""), "the API token is empty"),
        ("?api_token=good", {"Authorization": ""}, "use HTTP Basic authentication with the API token as the user"),
        ("", {"Authorization": "Bearer abc"}, "use HTTP Basic authentication with the API token as the user"),
        ("", {"Authorization": "Basic"}, "the Authorization header is not valid HTTP Basic"),
        ("", {"Authorization": "Basic !!!"}, "the Authorization header is not valid HTTP Basic"),
        ("", {"Authorization": "Basic é"}, "the Authorization header is not valid HTTP Basic"),
        ("", {"Authorization": "Basic /////w=="}, "the Authorization header is not valid HTTP Basic"),
        ("", {"Authorization": "Basic bm9jb2xvbg=="}, "the Authorization header is not valid HTTP Basic"),
    ],
)
@pytest.mark.parametrize("endpoint", ["/v1/ping", "/v1/contact", "/v1/batch"])
async def test_bad_credentials(client: Client, endpoint: str, path: str, headers: dict[str, str], problem: str) -> None:
    """Missing, empty or malformed credentials are answered 401."""
    answer = await client.of(None).post(endpoint + path, CONTACT, headers=headers)
    assert (answer.status, answer.body) == (401, {"error": problem})
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_known_tokens_only(session: Any) -> None:
    """With a list of tokens, other tokens are answered 401."""
    async with Sandbox(tokens=["good"]) as sandbox:
        client = Client(session, sandbox.url)
        assert (await client.of("good").post("/v1/ping")).status == 200
        answer = await client.of("bad").post("/v1/ping")
        assert (answer.status, answer.body) == (401, {"error": "the API token is wrong"})
        assert sandbox.summary()["workspaces"] == 1
        assert sandbox.requests()[-1]["workspace"] is None


async def test_token_is_shown_nowhere(client: Client, sandbox: Sandbox, tmp_path: Any) -> None:
    """Neither the token nor the password appears in responses, reprs or logs."""
    client.headers = basic("TOKEN-1", "SECRET-1")
    await client.contact("1", account_uid="9")
    await client.post("/v1/ping?api_token=TOKEN-1")
    await client.post("/nothing?api_token=TOKEN-1")
    shown = [repr(sandbox), repr(sandbox.requests())]
    for path in ("summary", "contacts", "contacts/1", "accounts", "events", "requests", "faults"):
        shown.append(repr(await client.get(path)))
        shown.append(repr(await client.of(None).get(path)))
    assert not any("TOKEN-1" in each or "SECRET-1" in each for each in shown)


async def test_requests_of_other_hosts_are_refused(client: Client) -> None:
    """A foreign name that resolves to the loopback is rejected by its Host header."""
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil", "", "[", "localhost/x", "evil:80"):
        answer = await client.post("/v1/ping", headers={"Host": host})
        assert (answer.status, answer.body) == (
            403,
            {"error": "the Host header does not name this sandbox; --allow-host adds a name"},
        )
        assert (await client.call("GET", "/_sandbox/health", headers={"Host": host})).status == 403
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:8080"):
        assert (await client.post("/v1/ping", headers={"Host": host})).status == 200


async def test_further_hosts(session: Any) -> None:
    """Host names can be added, for containers."""
    async with Sandbox(allowed_hosts=["Sandbox.Internal"]) as sandbox:
        client = Client(session, sandbox.url)
        assert (await client.post("/v1/ping", headers={"Host": "sandbox.internal:80"})).status == 200


async def test_other_origins_are_refused(client: Client, sandbox: Sandbox) -> None:
    """Requests from another origin are rejected; the origin of the sandbox is accepted."""
    for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://localhost:1", ""):
        answer = await client.call("POST", "/_sandbox/reset", headers={"Origin": origin})
        assert (answer.status, answer.body) == (403, {"error": "requests from other origins are not allowed"})
    answer = await client.call("POST", "/_sandbox/reset", headers={"Origin": sandbox.url})
    assert answer.status == 200
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


WRITES = [
    ("GET", f"/v1/contact?api_token={TOKEN}&_method=post&data=%7B%22contact_uid%22%3A%221%22%7D"),
    ("GET", f"/v1/ping?api_token={TOKEN}&_method=get"),
    ("GET", f"/v2/contacts?api_token={TOKEN}"),
    ("GET", f"/_sandbox/contacts?api_token={TOKEN}"),
    ("POST", "/v1/contact"),
    ("POST", "/v1/batch"),
    ("DELETE", "/v2/contacts/1"),
    ("POST", "/_sandbox/reset"),
    ("POST", "/_sandbox/replay"),
    ("PUT", "/_sandbox/faults"),
    ("DELETE", "/_sandbox/faults"),
    ("PUT", "/_sandbox/rate-limit"),
    ("DELETE", "/_sandbox/rate-limit"),
]
IMAGE = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1"}


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", **IMAGE},
        {"Sec-Fetch-Site": "same-site", **IMAGE},
        {"Sec-Fetch-Site": "cross-site", **NAVIGATION},
        {"Sec-Fetch-Site": "Cross-Site"},
        {"Sec-Fetch-Site": "nonsense"},
        {"Referer": "http://evil.example/"},
        {"Referer": "http://localhost:1/", "User-Agent": "Mozilla/5.0"},
    ],
)
async def test_other_sites_change_nothing(
    client: Client, sandbox: Sandbox, method: str, path: str, headers: dict[str, str]
) -> None:
    """What a page of another site makes a browser send changes nothing, whether by GET or not."""
    answer = await client.of(None).call(method, path, headers=headers)
    assert answer.status == 403
    assert "another site" in answer.body["error"]
    assert sandbox.summary()["workspaces"] == 0


async def test_browsers_without_fetch_metadata_change_nothing_by_get(client: Client, sandbox: Sandbox) -> None:
    """Beyond the loopback browsers send no Sec-Fetch headers and, on demand of the page, no Referer."""
    answer = await client.of(None).call(*WRITES[0], headers={"User-Agent": "Mozilla/5.0 (X11) Chrome/140"})
    assert (answer.status, sandbox.summary()["contacts"]) == (403, 0)


@pytest.mark.parametrize(("method", "path"), [*WRITES[:4], ("POST", f"/v1/ping?api_token={TOKEN}")])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"User-Agent": "node-XMLHttpRequest"},
        {"Sec-Fetch-Site": "none", **NAVIGATION},
        {"Sec-Fetch-Site": "same-origin", **IMAGE},
    ],
)
async def test_own_requests_are_served(client: Client, method: str, path: str, headers: dict[str, str]) -> None:
    """Clients without these headers, the sandbox's own page and typed addresses are served."""
    assert (await client.of(None).call(method, path, headers=headers)).status == 200


async def test_links_of_other_sites_to_the_page_work(session: Any, sandbox: Sandbox) -> None:
    """Reading without credentials is allowed from elsewhere, such as a link to the page in documentation."""
    headers = {
        "Sec-Fetch-Site": "cross-site",
        **NAVIGATION,
        "Referer": "https://docs.example/",
        "User-Agent": "Mozilla/5.0",
    }
    for path in ("/", "/_sandbox/page/main.js", "/_sandbox/health", "/_sandbox/summary"):
        async with session.get(f"{sandbox.url}{path}", headers=headers) as response:
            assert response.status == 200


async def test_unknown_paths_are_404(client: Client) -> None:
    """Unknown paths are answered with JSON errors."""
    for path in ("/v1", "/v1/contact/", "/v2", "/v2/nothing", "/v1/user"):
        answer = await client.post(path, CONTACT)
        assert (answer.status, answer.body) == (404, {"error": "no such path"})


async def test_other_methods_are_405(client: Client) -> None:
    """Other methods are answered with JSON errors that name the allowed one."""
    for path in ("ping", "contact", "account", "track/event", "alias", "batch"):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            answer = await client.call(method, f"/v1/{path}")
            assert (answer.status, answer.body) == (405, {"error": "method not allowed"})
            assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("*/*", 200),
        ("", 200),
        ("application/*", 200),
        ("text/html, application/json;q=0.1", 200),
        ("text/html, */*;q=0.1", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/html", 406),
        ("text/html, application/xml", 406),
        ("application/json;q=0, */*", 406),
        ("application/json; q=x", 406),
    ],
)
async def test_accept_must_include_json(client: Client, accept: str, status: int) -> None:
    """A request that does not accept JSON is answered 406."""
    answer = await client.post("/v1/contact", CONTACT, headers={"Accept": accept})
    assert answer.status == status
    if status == 406:
        assert answer.body == {"error": "the Accept header excludes application/json"}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("application/x-www-form-urlencoded", 406),
        ("text/plain", 406),
        ("text/json+json", 406),
    ],
)
async def test_content_type_must_be_json(client: Client, content_type: str, status: int) -> None:
    """A body with another Content-Type is answered 406, and its message counts as rejected."""
    answer = await client.send("/v1/contact", '{"contact_uid": "1"}', content_type)
    assert answer.status == status
    rejected = (await client.get("rejected"))["rejected"]
    assert [each["status"] for each in rejected] == ([406] if status == 406 else [])
    assert (await client.get("summary"))["rejected"] == len(rejected)
    if status == 406:
        assert answer.body == {"error": "the Content-Type must be application/json"}


async def test_body_limit(session: Any) -> None:
    """A body above the limit is answered 413, whether announced, chunked or compressed."""
    async with Sandbox(max_body_bytes=1000) as sandbox:
        client = Client(session, sandbox.url)
        problem = {"error": "the body is larger than the limit of 1000 bytes"}

        async def chunks() -> Any:
            for _ in range(3):
                yield b"x" * 500

        headers = {"Content-Type": "application/json"}
        for data, more in (
            (b"x" * 1001, {}),
            (chunks(), {}),
            (gzip.compress(b"x" * 100_000), {"Content-Encoding": "gzip"}),
        ):
            answer = await client.call("POST", "/v1/batch", data=data, headers={**headers, **more})
            assert (answer.status, answer.body) == (413, problem)
        body = b'{"contact_uid": "1", "params": {"x": "' + b"x" * (1000 - 42) + b'"}}'
        assert (await client.send("/v1/contact", body)).status == 200


async def test_batch_limit(session: Any) -> None:
    """A batch above the limit is answered 413."""
    async with Sandbox(max_batch_messages=2) as sandbox:
        client = Client(session, sandbox.url)
        item = {"method": "contact", "contact_uid": "1"}
        assert (await client.post("/v1/batch", [item] * 2)).status == 201
        answer = await client.post("/v1/batch", [item] * 3)
        assert (answer.status, answer.body) == (413, {"error": "the batch has 3 messages; the limit is 2"})


async def test_compressed_bodies(client: Client, sandbox: Sandbox) -> None:
    """gzip is supported; malformed gzip is answered 400."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await client.call("POST", "/v1/contact", data=gzip.compress(b'{"contact_uid": "1"}'), headers=headers)
    assert answer.status == 200
    answer = await client.call("POST", "/v1/contact", data=b"not gzip", headers=headers)
    assert (answer.status, answer.body) == (400, {"error": "the body cannot be decoded"})
    assert len(sandbox.contacts()) == 1


async def test_a_bug_is_answered_500(
    client: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An internal error is answered with JSON and logged, and the batch is rolled back."""
    from salesmachine_async.sandbox.storage.store import Store

    def fail(*arguments: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Store, "add_seen", fail)
    answer = await client.post("/v1/contact", CONTACT)
    assert (answer.status, answer.body) == (500, {"error": "internal error; see the sandbox's log"})
    assert "broken" in caplog.text
    assert sandbox.summary()["accepted"] == sandbox.summary()["contacts"] == 0
    monkeypatch.undo()
    assert (await client.post("/v1/contact", CONTACT)).status == 200


async def test_what_is_not_http_reaches_no_log(sandbox: Sandbox) -> None:
    """aiohttp's log of malformed requests, which can contain a token, reaches only its own logger."""
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Handler()
    logger = logging.getLogger("salesmachine_async.sandbox")
    logger.addHandler(handler)
    try:
        host, _, port = sandbox.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/ping?api_token=TOKEN-1 nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 400")
        writer.close()
        await writer.wait_closed()
    finally:
        logger.removeHandler(handler)
    assert records == []


async def test_client_gone_before_its_fault(sandbox: Sandbox) -> None:
    """A client that disconnects during a latency causes no error."""
    sandbox.faults([Fault(latency=0.02, drop="before"), Fault(latency=0.02, status=503)])
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    for count in (1, 2):
        _, writer = await asyncio.open_connection(host, int(port))
        credentials = basic(TOKEN)["Authorization"]
        writer.write(f"POST /v1/ping HTTP/1.1\r\nHost: localhost\r\nAuthorization: {credentials}\r\n\r\n".encode())
        await writer.drain()
        while len(sandbox.faults_left()) > 2 - count:
            await asyncio.sleep(0)
        writer.transport.abort()
        while len(sandbox.requests()) < count:
            await asyncio.sleep(0.001)
    assert [line["path"] for line in sandbox.requests()] == ["/v1/ping", "/v1/ping"]
