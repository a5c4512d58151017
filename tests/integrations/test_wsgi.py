"""The middleware for any WSGI application, by the letter of PEP 3333."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from salesmachine_async import ConfigError, ThreadedAgent
from salesmachine_async.integrations.wsgi import SalesmachineMiddleware, current_tracker, get_agent, identify
from salesmachine_async.testing import Recorder, Workspace
from tests.support.wsgi_driver import Server


def application(environ: Any, start_response: Any) -> Iterable[bytes]:
    identify("u", "acme")
    current_tracker().track("seen")
    start_response("201 Created", [("Content-Type", "text/plain")])
    return [b"a", b"b"]


def wrapped(app: Any, agent: Any, **options: Any) -> SalesmachineMiddleware:
    defaults: dict[str, Any] = {"pageviews": True, "route": lambda environ: "/things/<thing>"}
    return SalesmachineMiddleware(app, agent, **{**defaults, **options})


def test_a_request_has_a_tracker_and_is_a_pageview(recorder: Recorder) -> None:
    """The answer passes unchanged."""
    server = Server(wrapped(application, recorder, client_ip=True, user_agent=True))
    assert server.get() == b"ab"
    assert server.status == "201 Created"
    recorder.assert_tracked("seen", contact_uid="u", account_uid="acme")
    params = recorder.assert_tracked("pageview", visit_url="/things/<thing>", status=201, method="GET")["params"]
    assert (params["visit_ip"], params["visit_agent"]) == ("203.0.113.7", "Mozilla/5.0")
    assert "aborted" not in params
    assert current_tracker().track("outside") is False


@pytest.mark.parametrize(
    "options",
    [
        {"pageviews": False},
        {"route": None},
        {"route": lambda environ: None},
        {"exclude": ["/things/*"]},
        {"methods": ["POST"]},
    ],
)
def test_what_is_no_pageview(recorder: Recorder, options: Any) -> None:
    """Excluded requests and unknown routes make no pageview."""
    assert Server(wrapped(application, recorder, **options)).get() == b"ab"
    recorder.assert_not_tracked("pageview")
    recorder.assert_tracked("seen")


def test_a_stream_has_the_tracker_until_its_end(recorder: Recorder) -> None:
    """The context lasts until the server closes the iterable of the answer."""
    closed: list[bool] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        def rows() -> Iterator[bytes]:
            try:
                for number in range(3):
                    current_tracker().track("row", {"n": number})
                    yield b"x"
            finally:
                closed.append(current_tracker().track("closed"))

        identify("u")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return rows()

    assert Server(wrapped(app, recorder)).get() == b"xxx"
    assert [message["event_uid"] for message in recorder.messages] == ["row"] * 3 + ["closed", "pageview"]
    assert closed == [True]


def test_a_visitor_who_leaves_in_the_middle_of_the_answer(recorder: Recorder) -> None:
    """The server closes it early: aborted, with the status that was sent."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        identify("u")
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield from [b"x"] * 100

    answer = Server(wrapped(app, recorder), check=False).open()
    assert next(iter(answer)) == b"x"
    answer.close()
    answer.close()
    assert len(recorder.tracked("pageview")) == 1
    recorder.assert_tracked("pageview", aborted=True, status=200)


@pytest.mark.parametrize("fails", [False, True])
def test_a_server_that_cannot_write_the_last_part(recorder: Recorder, fails: bool) -> None:
    """An answer that is given out whole is aborted only if the server closes it because of an error."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        identify("u")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1000000")])
        return [b"x" * 1_000_000]

    answer = Server(wrapped(app, recorder), check=False).open()
    with suppress(BrokenPipeError):
        try:
            next(iter(answer))
            if fails:
                raise BrokenPipeError
        finally:
            answer.close()
    (pageview,) = recorder.tracked("pageview")
    assert pageview["params"].get("aborted", False) is fails
    assert pageview["params"]["status"] == 200


@pytest.mark.parametrize("length", ["", "x", None, b"1", "-1", "0"])
def test_a_length_that_breaks_the_protocol_is_for_the_server(recorder: Recorder, length: Any) -> None:
    """It is passed on as it is."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        identify("u")
        start_response("200 OK", [("Content-Length", length)])
        return [b"x"]

    server = Server(wrapped(app, recorder), check=False)
    assert server.get() == b"x"
    assert server.headers == [("Content-Length", length)]
    assert "aborted" not in recorder.assert_tracked("pageview")["params"]


@pytest.mark.parametrize("read", [lambda body: body.read(), lambda body: body.readline()])
@pytest.mark.parametrize("answers", [False, True])
def test_a_visitor_who_leaves_in_the_middle_of_the_upload(recorder: Recorder, read: Any, answers: bool) -> None:
    """Reading the body fails: aborted, whether the application raises or answers with an error."""

    class Body:
        def read(self, *_: Any) -> bytes:
            raise OSError("the connection is closed")

        readline = read

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        identify("u")
        try:
            read(environ["wsgi.input"])
        except OSError:
            if not answers:
                raise
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b""]

    server = Server(wrapped(app, recorder), check=False)
    body: dict[str, Any] = {"wsgi.input": Body()}
    if answers:
        server.get(method="POST", **body)
    else:
        with pytest.raises(OSError, match="closed"):
            server.get(method="POST", **body)
    assert "status" not in recorder.assert_tracked("pageview", aborted=True)["params"]


def test_an_exception_is_a_500_and_passes(recorder: Recorder) -> None:
    """The server answers."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        identify("u")
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        Server(wrapped(app, recorder)).open()
    assert "aborted" not in recorder.assert_tracked("pageview", status=500)["params"]


def test_wrapped_twice_there_is_one_tracker(recorder: Recorder) -> None:
    """The outer one's."""
    Server(wrapped(SalesmachineMiddleware(application, Recorder()), recorder)).get()
    assert len(recorder.tracked("seen")) == len(recorder.tracked("pageview")) == 1


def test_the_callables_are_called_late(recorder: Recorder) -> None:
    """The callables run after the application, so that they see what its middleware has stored."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        environ["user"] = 42
        start_response("200 OK", [])
        return [b""]

    Server(wrapped(app, recorder, contact=lambda environ: environ.get("user")), check=False).get()
    recorder.assert_tracked("pageview", contact_uid=42)


def test_a_broken_callable_is_only_logged(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is the application's."""

    def fail(environ: Any) -> str:
        raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        assert Server(wrapped(application, recorder, route=fail)).get() == b"ab"
    assert "an automatic pageview failed: RuntimeError" in caplog.text


def test_without_an_agent_it_has_the_one_of_the_process(workspace: Workspace) -> None:
    """The agent comes from the environment, and no request of a visitor raises."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        identify("u")
        assert current_tracker().track("feedback", {"text": "x" * 600_000}) is False
        return application(environ, start_response)

    middleware = SalesmachineMiddleware(app)
    assert Server(middleware).get() == b"ab"
    agent = get_agent(middleware)
    assert isinstance(agent, ThreadedAgent)
    assert agent is get_agent(SalesmachineMiddleware(app))
    assert agent.flush().delivered == 1
    assert [event["event_uid"] for event in workspace.events()] == ["seen"]
    with pytest.raises(LookupError, match="no agent"):
        get_agent(app)


def test_a_single_text_is_a_mistake() -> None:
    """A text in the place of a list is an error, because its letters would be the patterns."""
    with pytest.raises(ConfigError, match="must be several texts"):
        SalesmachineMiddleware(application, exclude="/health")
