"""A contact's view of an agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from salesmachine_async import Agent, InvalidMessage, ThreadedAgent, Tracker
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.testing import Recorder

WHEN = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_the_calls_need_no_uid_any_more(recorder: Recorder) -> None:
    """Each call has the bound uid and params."""
    tracker = recorder.bind("u", "acme", plan="pro")
    assert tracker.contact({"email": "e"})
    assert tracker.track("ordered", {"order": 9})
    assert tracker.pageview({"visit_url": "/"})
    bound = {"plan": "pro", "account_uid": "acme"}
    recorder.assert_contact("u", email="e", **bound)
    recorder.assert_tracked("ordered", contact_uid="u", order=9, **bound)
    recorder.assert_tracked("pageview", contact_uid="u", visit_url="/", **bound)


def test_the_params_of_a_call_win(recorder: Recorder) -> None:
    """Params of a call take precedence over bound ones, also over the account."""
    recorder.bind("u", "acme", plan="pro").track("e", {"plan": "free", "account_uid": "other"})
    assert recorder.messages[0]["params"] == {"plan": "free", "account_uid": "other"}


def test_without_anything_bound_the_params_are_passed_on(recorder: Recorder) -> None:
    """Params are passed on unchanged, also None."""
    tracker = recorder.bind(7)
    tracker.track("e")
    tracker.track("e", {"a": 1})
    assert [message["params"] for message in recorder.messages] == [{}, {"a": 1}]
    assert recorder.messages[0]["contact_uid"] == "7"


@pytest.mark.parametrize("params", [None, {}])
def test_without_params_what_is_bound_is_sent(recorder: Recorder, params: Any) -> None:
    """The account as text, as uids are everywhere."""
    recorder.bind("u", 78910, plan="pro").track("e", params)
    assert recorder.messages[0]["params"] == {"plan": "pro", "account_uid": "78910"}


def test_time_and_id_are_passed_on(recorder: Recorder) -> None:
    """Each of the three calls passes on created_at and message_id."""
    tracker = recorder.bind("u")
    tracker.contact(created_at=WHEN, message_id="1")
    tracker.track("e", created_at=WHEN, message_id="2")
    tracker.pageview(created_at=WHEN, message_id="3")
    for number, message in enumerate(recorder.messages, 1):
        assert (message["created_at"], message["messageId"]) == ("2026-11-22T00:00:00.000Z", str(number))


class Lazy(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Broken(Lazy):
    def __iter__(self) -> Iterator[str]:
        raise KeyError("private")


def test_any_mapping_will_do(recorder: Recorder) -> None:
    """Params may be any mapping, as for the agent."""
    recorder.bind("u", plan="pro").track("e", Lazy())
    assert recorder.messages[0]["params"] == {"plan": "pro", "a": 1}


@pytest.mark.parametrize("params", [Broken(), [("a", 1)], [], 0, "text"])
def test_what_is_no_mapping_is_refused_by_the_agent(recorder: Recorder, params: Any) -> None:
    """The agent's error is raised, with bound params and without."""
    for tracker in (recorder.bind("u", plan="pro"), recorder.bind("u")):
        with pytest.raises(InvalidMessage, match="params"):
            tracker.track("e", params)
    assert recorder.messages == []


def test_what_is_bound_is_a_copy(recorder: Recorder) -> None:
    """The attributes cannot be changed from outside."""
    params = {"plan": "pro"}
    tracker = Tracker(recorder, "u", None, params)
    params["plan"] = "free"
    tracker.track("e")
    assert recorder.messages[0]["params"] == {"plan": "pro"}


def test_calls_without_a_contact_are_dropped_and_logged_once(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An anonymous visitor is no mistake: calls return False, and one line is logged, without an exception."""
    monkeypatch.setattr("salesmachine_async.tracker._log", RateLimitedLogger())
    tracker = Tracker(recorder)
    assert [tracker.contact(), tracker.track("e"), tracker.pageview()] == [False, False, False]
    assert recorder.messages == []
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["contact dropped: no contact identified yet; call identify() first"]
    assert (tracker.contact_uid, tracker.account_uid) == (None, None)
    tracker.identify("u", "acme")
    assert tracker.track("e")
    assert (tracker.contact_uid, tracker.account_uid) == ("u", "acme")


def test_its_repr_shows_no_contact(recorder: Recorder) -> None:
    """A uid may be an email address."""
    assert repr(recorder.bind("elon@teslamotors.com")) == "<Tracker [identified]>"
    assert repr(Tracker(recorder)) == "<Tracker [anonymous]>"


def test_the_agent_is_there_for_the_other_calls(recorder: Recorder) -> None:
    """About accounts and aliases."""
    tracker = recorder.bind("u")
    tracker.agent.alias("u", "other")
    tracker.agent.account("acme", {"name": "Acme"})
    recorder.assert_alias("u", "other")
    recorder.assert_account("acme", name="Acme")


async def test_the_refusal_of_the_agent_comes_through() -> None:
    """True and False mean what they always mean."""
    async with Agent("t", base_url="http://127.0.0.1:1", before_send=lambda message: None) as agent:
        assert agent.bind("u").track("e") is False


def test_a_threaded_agent_binds_as_well() -> None:
    """A ThreadedAgent binds the same tracker."""
    agent = ThreadedAgent(transport=Recorder()._transport)
    tracker = agent.bind("u", plan="pro")
    assert tracker.track("e")
    assert tracker.agent is agent
    assert agent.close().delivered == 1
