"""The middleware looks on: whatever an application sends, raises or leaves out gets through as it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from salesmachine_async.integrations.asgi import current_tracker
from salesmachine_async.testing import Recorder
from tests.support.asgi_driver import START, Route, call, http_scope, routed, websocket, wrapped


async def test_every_message_passes_as_it_is_and_at_once(recorder: Recorder) -> None:
    """The messages of a streamed answer are the same objects, in order, each sent before the next is made."""
    sent = [
        START,
        *({"type": "http.response.body", "body": b"x", "more_body": True} for _ in range(3)),
        {"type": "http.response.body", "body": b"", "more_body": False},
        {"type": "http.response.trailers", "headers": []},
    ]
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        for index, message in enumerate(sent):
            await send(message)
            assert len(got) == index + 1
            assert got[-1] is message

    async def send(message: Any) -> None:
        got.append(message)

    await wrapped(app, recorder)(http_scope(), None, send)  # type: ignore[arg-type]
    assert len(got) == len(sent)
    recorder.assert_tracked("pageview", contact_uid="u", visit_url="/things/{thing}", status=200, method="GET")


async def test_the_pageview_comes_with_the_last_piece_not_with_the_end_of_background_tasks(recorder: Recorder) -> None:
    """An application may work on for long after its answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.body", "body": b"ok"})
        assert len(recorder.tracked("pageview")) == 1
        current_tracker().track("afterwards")

    await call(wrapped(app, recorder))
    assert [message["event_uid"] for message in recorder.messages] == ["pageview", "afterwards"]


@pytest.mark.parametrize(
    "file",
    [
        [{"type": "http.response.pathsend", "path": "/tmp/file"}],
        [{"type": "http.response.zerocopysend", "file": 3, "more_body": True}, {"type": "http.response.zerocopysend"}],
    ],
)
async def test_a_file_in_place_of_the_body_is_an_answer(recorder: Recorder, file: list[dict[str, Any]]) -> None:
    """Two extensions of ASGI: by its path, or by its descriptor in pieces."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        for message in (START, *file):
            await send(message)

    await call(wrapped(app, recorder))
    assert "aborted" not in recorder.assert_tracked("pageview")["params"]


async def test_an_answer_that_goes_on_after_its_end_is_one_pageview(recorder: Recorder) -> None:
    """Servers drop what comes after a disconnect without a word."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        await send({"type": "http.response.body"})
        await send({"type": "http.response.body"})

    await call(wrapped(app, recorder))
    assert len(recorder.messages) == 1


async def test_an_exception_before_the_answer_is_a_500_and_passes_untouched(recorder: Recorder) -> None:
    """The exception propagates unchanged, and its text is not in the pageview."""
    boom = RuntimeError("secret")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        raise boom

    with pytest.raises(RuntimeError) as caught:
        await call(wrapped(app, recorder))
    assert caught.value is boom
    assert caught.value.__context__ is None
    params = recorder.assert_tracked("pageview", status=500)["params"]
    assert "aborted" not in params
    assert "secret" not in str(params)


async def test_an_exception_in_the_middle_of_the_answer_leaves_its_status_and_aborted(recorder: Recorder) -> None:
    """The client saw a 200 that broke off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await call(wrapped(app, recorder))
    recorder.assert_tracked("pageview", status=200, aborted=True)


async def test_an_application_that_returns_without_an_answer_is_a_500(recorder: Recorder) -> None:
    """Servers answer 500 in its place."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)

    await call(wrapped(app, recorder))
    recorder.assert_tracked("pageview", status=500)


async def test_a_cancelled_request_is_aborted_and_stays_cancelled(recorder: Recorder) -> None:
    """Servers cancel when the client goes away."""
    reached = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(call(wrapped(app, recorder)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]


async def test_a_client_that_goes_in_the_middle_is_aborted(recorder: Recorder) -> None:
    """The server's send() raises; the final piece never comes; the error is the application's to handle."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        with pytest.raises(OSError, match="gone"):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    await wrapped(app, recorder)(http_scope(), None, send)  # type: ignore[arg-type]
    recorder.assert_tracked("pageview", status=200, aborted=True)


async def test_an_answer_ended_for_a_client_that_is_gone_is_aborted(recorder: Recorder) -> None:
    """A stream that ends normally after a disconnect, as in Starlette's BaseHTTPMiddleware, is aborted."""
    gone = {"type": "http.disconnect"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send(START)
        assert await receive() is gone
        await send({"type": "http.response.body"})
        assert await receive() is gone  # after the end it is nothing special

    async def receive() -> Any:
        return gone

    async def send(message: Any) -> None:
        pass

    await wrapped(app, recorder)(http_scope(), receive, send)
    assert len(recorder.messages) == 1
    recorder.assert_tracked("pageview", status=200, aborted=True)


async def test_a_websocket_has_a_tracker_and_is_no_pageview(recorder: Recorder) -> None:
    """Context for both kinds of connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send({"type": "websocket.accept"})
        current_tracker().track("said")

    answer = await websocket(wrapped(app, recorder), "/")
    assert answer.kinds == ["websocket.accept"]
    assert [message["event_uid"] for message in recorder.messages] == ["said"]


@pytest.mark.parametrize("kind", ["websocket.close", "websocket.http.response.start"])
async def test_a_handshake_that_is_denied_passes_as_it_is(recorder: Recorder, kind: str) -> None:
    """Both kinds of a denied handshake are sent unchanged, without a pageview."""
    messages: list[dict[str, Any]] = [{"type": kind, "code": 1008, "status": 403, "headers": []}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        for message in messages:
            await send(message)

    answer = await websocket(wrapped(app, recorder, contact=lambda scope: "u"), "/")
    assert all(got is sent for got, sent in zip(answer.messages, messages, strict=True))
    assert recorder.messages == []


async def test_a_websocket_that_breaks_off_raises_what_it_raised(recorder: Recorder) -> None:
    """The exception propagates, and the context has no tracker after it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send({"type": "websocket.accept"})
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        await websocket(wrapped(app, recorder), "/")
    assert current_tracker().track("e") is False


async def test_unknown_kinds_of_scopes_pass_through(recorder: Recorder) -> None:
    """Scopes of a later version of ASGI are passed on unchanged."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope, receive, send])

    scope = {"type": "webtransport"}
    receive, send = object(), object()
    await wrapped(app, recorder)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [{"type": "webtransport"}, receive, send]
    assert seen[0] is scope


async def test_mounted_twice_it_works_once(recorder: Recorder) -> None:
    """The inner one passes everything through."""
    trackers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        trackers.append(current_tracker())
        await send(START)
        await send({"type": "http.response.body"})

    outer = wrapped(wrapped(app, Recorder()), recorder)
    await call(outer)
    assert len(recorder.messages) == 1
    assert trackers[0].agent is recorder


async def test_routers_write_into_the_scope_of_the_server(recorder: Recorder) -> None:
    """The scope is not copied, because middleware outside reads the route in it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)

    scope = http_scope()
    await wrapped(app, recorder)(scope, None, None)  # type: ignore[arg-type]
    assert isinstance(scope["route"], Route)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled", "answers"])
async def test_a_visitor_who_leaves_is_no_error(recorder: Recorder, begun: bool, how: str) -> None:
    """The pageview is aborted, without a status or with the one that was sent."""

    class ClientDisconnect(Exception): ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        if begun:
            await send({"type": "http.response.start", "status": 202, "headers": []})
        assert (await receive())["type"] == "http.disconnect"
        if how == "answers" and not begun:  # as Starlette with a 500 and FastAPI with a 400
            await send({"type": "http.response.start", "status": 500, "headers": []})
        if how == "answers":
            await send({"type": "http.response.body"})
        if how == "raises":
            raise ClientDisconnect
        if how == "is cancelled":
            raise asyncio.CancelledError

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None: ...

    with suppress(ClientDisconnect, asyncio.CancelledError):
        await wrapped(app, recorder)(http_scope("/things/1"), receive, send)
    params = recorder.assert_tracked("pageview", aborted=True)["params"]
    assert params.get("status") == (202 if begun else None)


async def test_a_connection_that_breaks_while_the_answer_is_sent_is_no_error(recorder: Recorder) -> None:
    """Some servers raise for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        routed(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await wrapped(app, recorder)(http_scope("/things/1"), None, send)  # type: ignore[arg-type]
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]
