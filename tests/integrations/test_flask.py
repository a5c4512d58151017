"""Flask: routes, streams, the factory pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, session, stream_with_context

from salesmachine_async.integrations.flask import Salesmachine, current_tracker, get_agent, identify
from salesmachine_async.testing import Recorder


def make(agent: Any, **options: Any) -> Flask:
    app = Flask(__name__)
    app.secret_key = "tests"
    extension = Salesmachine(agent=agent, **{"pageviews": True, **options})
    extension.init_app(app)

    @app.get("/orders/<int:order>")
    def order(order: int) -> str:
        identify("u", "acme")
        current_tracker().track("order_seen", {"order": order})
        return "ok"

    @app.get("/login")
    def login() -> str:
        session["user"] = 42
        return "ok"

    @app.get("/broken")
    def broken() -> str:
        identify("u")
        raise RuntimeError("boom")

    @app.get("/stream")
    def stream() -> Response:
        identify("u")

        def rows() -> Iterator[str]:
            for _ in range(3):
                current_tracker().track("row")
                yield "x"

        return Response(stream_with_context(rows()))

    return app


def test_the_pageview_has_the_rule(recorder: Recorder) -> None:
    """The tracker is the request's."""
    assert make(recorder).test_client().get("/orders/7").text == "ok"
    recorder.assert_tracked("order_seen", contact_uid="u", account_uid="acme", order=7)
    recorder.assert_tracked("pageview", visit_url="/orders/<int:order>", status=200, account_uid="acme")


def test_wrong_paths_are_no_pageviews(recorder: Recorder) -> None:
    """A scanner tries many."""
    assert make(recorder, contact=lambda environ: "u").test_client().get("/wp-login.php").status_code == 404
    assert recorder.messages == []


def test_the_contact_may_come_from_the_session(recorder: Recorder) -> None:
    """The callable runs within the context of the request."""
    client = make(recorder, contact=lambda environ: session.get("user")).test_client()
    assert client.get("/login").text == "ok"
    recorder.assert_tracked("pageview", contact_uid=42, visit_url="/login")


def test_an_exception_is_a_500(recorder: Recorder) -> None:
    """Flask answers it."""
    app = make(recorder)
    app.logger.disabled = True
    with app.test_client().get("/broken") as response:
        assert response.status_code == 500
    recorder.assert_tracked("pageview", status=500)


def test_a_stream_has_the_tracker(recorder: Recorder) -> None:
    """A stream has the tracker until its end."""
    assert make(recorder).test_client().get("/stream").text == "xxx"
    assert [message["event_uid"] for message in recorder.messages] == ["row"] * 3 + ["pageview"]


def test_the_agent_can_be_had(recorder: Recorder) -> None:
    """get_agent returns the agent of the application."""
    assert get_agent(make(recorder)) is recorder
    with pytest.raises(LookupError, match="call Salesmachine"):
        get_agent(Flask("other"))


@pytest.mark.parametrize("path", ["/orders/7", "/large"])
def test_a_client_that_does_not_read_the_end_has_the_whole_answer(recorder: Recorder, path: str) -> None:
    """The test client of Flask stops with the last part; a small answer is over before that is looked at."""
    app = make(recorder, contact=lambda environ: "u")
    app.get("/large")(lambda: "x" * 1_000_000)
    response = app.test_client().get(path)
    assert len(recorder.tracked("pageview")) == (path == "/orders/7")
    response.close()
    (pageview,) = recorder.tracked("pageview")
    assert "aborted" not in pageview["params"]
