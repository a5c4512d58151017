"""The options and the environment of the agents that integrations make: a mistake in them is no error of a request."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import ConfigError, Invalid
from salesmachine_async.integrations import wsgi
from salesmachine_async.integrations._environment import VARIABLES, fallback_agent
from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify, tracking
from salesmachine_async.testing import Workspace
from tests.integrations.test_asgi_life import App, polite
from tests.support.asgi_driver import call, running
from tests.support.wsgi_driver import Server


def application(_environ: Any, start_response: Any) -> list[bytes]:
    identify("u")
    current_tracker().track("seen")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


@pytest.mark.parametrize("variable", VARIABLES)
async def test_an_unusable_variable_turns_tracking_off(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    """Requests are answered with a lifespan, without one and under WSGI, and a line of the log names the reason."""
    if variable == "SALESMACHINE_API_SECRET":
        monkeypatch.setenv(variable, "no secret")
    else:
        monkeypatch.setenv(variable, "/dev/null/no: value")
    middleware = SalesmachineMiddleware(App(polite))
    async with running(middleware):
        assert (await call(middleware, "/")).status == 200
    assert (await call(middleware, "/")).status == 200
    assert Server(wsgi.SalesmachineMiddleware(application)).get() == b"ok"
    with tracking("u"):
        current_tracker().track("job")
    expected = "running without a spool" if variable == "SALESMACHINE_SPOOL" else "tracking is off"
    assert expected in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_agent_of_the_process_follows_each_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """A changed variable takes effect with the next call, as in the tests of an application."""
    for each in VARIABLES:
        monkeypatch.delenv(each, raising=False)
    before = fallback_agent()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "1")
    assert fallback_agent() is not before


@pytest.mark.parametrize(
    "options",
    [{"enabled": "no"}, {"debug": 1}, {"on_invalid": "report"}, {"params": 5}, {"params": {"release": object}}],
    ids=str,
)
def test_a_mistake_in_the_options_is_an_error_where_they_are_given(options: dict[str, Any]) -> None:
    """It is none of the requests."""
    (name,) = options
    with pytest.raises(ConfigError, match=f"^{name}"):
        SalesmachineMiddleware(App(), **options)
    with pytest.raises(ConfigError, match=f"^{name}"):
        wsgi.SalesmachineMiddleware(application, **options)


async def test_the_options_take_effect(workspace: Workspace) -> None:
    """The params go with each message; what is changed later in the caller's mapping has no effect."""
    params: dict[str, Any] = {"release": {"major": 1}}
    middleware = SalesmachineMiddleware(App(polite), params=params, on_invalid=Invalid.REPORT, debug=False)
    params["release"]["major"] = 2
    async with running(middleware):
        await call(middleware, "/within")
    await call(middleware, "/after")
    events = await workspace.wait_for_async(count=2)
    assert [event["params"]["release"] for event in events] == [{"major": 1}] * 2
