"""Visitors before their login: the cookie, the alias, hostile values."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from salesmachine_async import AgentClosed, ConfigError
from salesmachine_async.integrations import _anonymous
from salesmachine_async.integrations._anonymous import AnonymousCookie, AnonymousVisitors
from salesmachine_async.integrations._context import RequestTracker
from salesmachine_async.testing import Recorder

ID = "anonymous-" + "0123456789abcdef" * 2


def request(
    visitors: AnonymousVisitors, agent: Any, cookies: str = "", *, contact: Any = None, https: bool = False
) -> RequestTracker:
    """Make the tracker of a request."""
    return RequestTracker(agent, contact, None, visitor=visitors.visitor({}, cookies, https=https))


def value(header: str | None) -> str:
    """Return the cookie of a header as a browser sends it."""
    assert header is not None
    return header.partition(";")[0]


def test_a_visit_a_login_and_the_time_after_it(recorder: Recorder) -> None:
    """A visitor has one uid before the login, one alias at it, and neither cookie nor alias after it."""
    visitors = AnonymousVisitors(AnonymousCookie())
    first = request(visitors, recorder)
    assert first.track("seen")
    cookie = value(first.set_cookie(is_page=False))
    second = request(visitors, recorder, cookie)
    assert second.track("seen again")
    assert second.set_cookie(is_page=True) is None
    login = request(visitors, recorder, cookie)
    login.track("form sent")
    login.identify("u")
    login.track("logged in")
    removed = login.set_cookie(is_page=True)
    assert removed is not None
    assert removed.startswith("salesmachine_visitor=; ")
    assert "Max-Age=0" in removed
    later = request(visitors, recorder)
    later.identify("u")
    assert later.set_cookie(is_page=True) is None
    anonymous = cookie.partition("=")[2]
    seen = [(each.get("event_uid", "alias"), each["contact_uid"]) for each in recorder.messages]
    assert seen == [
        ("seen", anonymous),
        ("seen again", anonymous),
        ("form sent", anonymous),
        ("alias", "u"),
        ("logged in", "u"),
    ]
    assert [each["alias"] for each in recorder.messages if "alias" in each] == [anonymous]


def test_a_contact_that_a_callable_finds_is_joined_before_the_first_message(recorder: Recorder) -> None:
    """The alias precedes the first message of a contact found by a callable, as in a session."""
    visitors = AnonymousVisitors(AnonymousCookie())
    tracker = request(visitors, recorder, f"salesmachine_visitor={ID}", contact=lambda: "u")
    tracker.track("seen")
    assert [each.get("alias") for each in recorder.messages] == [ID, None]
    assert [each["contact_uid"] for each in recorder.messages] == ["u", "u"]


def test_a_contact_that_was_never_anonymous_has_no_alias(recorder: Recorder) -> None:
    """A contact for whom no anonymous message was tracked has no alias."""
    visitors = AnonymousVisitors(AnonymousCookie())
    tracker = request(visitors, recorder)
    tracker.identify("u")
    tracker.track("seen")
    assert tracker.set_cookie(is_page=True) is None
    recorder.assert_tracked("seen", contact_uid="u")
    assert len(recorder.messages) == 1


def test_an_anonymous_event_in_the_request_of_the_login_is_joined(recorder: Recorder) -> None:
    """An anonymous event and a login in one request send an alias, and set no cookie."""
    tracker = request(AnonymousVisitors(AnonymousCookie()), recorder)
    tracker.track("signup seen")
    tracker.identify("u")
    assert tracker.set_cookie(is_page=True) is None
    event, alias = recorder.messages
    assert (alias["contact_uid"], alias["alias"]) == ("u", event["contact_uid"])


def test_concurrent_requests_send_one_alias(recorder: Recorder) -> None:
    """Eight concurrent requests with the old cookie after the login send one alias."""
    visitors = AnonymousVisitors(AnonymousCookie())
    barrier = threading.Barrier(8)

    def serve() -> None:
        tracker = request(visitors, recorder, f"salesmachine_visitor={ID}")
        barrier.wait()
        tracker.identify("u")
        tracker.track("seen")

    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("alias" in each for each in recorder.messages) == 1
    assert sum("event_uid" in each for each in recorder.messages) == 8


def test_threads_of_one_request_agree_on_the_id(recorder: Recorder) -> None:
    """Threads of a pool in one request use the same anonymous id."""
    tracker = request(AnonymousVisitors(AnonymousCookie()), recorder)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        tracker.track("seen")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {each["contact_uid"] for each in recorder.messages}
    assert value(tracker.set_cookie(is_page=False)) == f"salesmachine_visitor={ids.pop()}"
    assert not ids


def test_another_contact_in_the_same_browser_is_not_merged(recorder: Recorder) -> None:
    """The old cookie of one contact with the login of another sends no alias."""
    visitors = AnonymousVisitors(AnonymousCookie())
    for contact in ("u", "v"):
        request(visitors, recorder, f"salesmachine_visitor={ID}").identify(contact)
    assert [(each["contact_uid"], each["alias"]) for each in recorder.messages] == [("u", ID)]


def test_an_alias_that_is_dropped_is_sent_by_the_next_request(caplog: pytest.LogCaptureFixture) -> None:
    """An alias dropped by a full queue or a closed agent leaves the cookie, and is sent by the next request."""

    class Reluctant(Recorder):
        answers = iter([False, AgentClosed("closed"), True])

        def alias(self, *args: Any, **kwargs: Any) -> bool:
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            return bool(answer) and super().alias(*args, **kwargs)

    agent, visitors = Reluctant(), AnonymousVisitors(AnonymousCookie())
    answers = []
    for _ in range(4):
        tracker = request(visitors, agent, f"salesmachine_visitor={ID}")
        tracker.identify("u")
        answers.append(tracker.set_cookie(is_page=True) is None)
    assert answers == [True, True, False, False]
    assert sum("alias" in each for each in agent.messages) == 1
    assert "the alias of a visitor failed: AgentClosed" in caplog.text


def test_the_alias_of_an_id_has_one_message_id(recorder: Recorder) -> None:
    """The alias of two processes has one message id, so that a server can recognize the second."""
    for _process in range(2):
        request(AnonymousVisitors(AnonymousCookie()), recorder, f"salesmachine_visitor={ID}").identify("u")
    assert {each["messageId"] for each in recorder.messages} == {f"alias-{ID}"}


def test_the_memory_is_bounded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory holds only the ids that were joined last."""
    monkeypatch.setattr(_anonymous, "REMEMBERED", 3)
    visitors = AnonymousVisitors(lambda _: None)
    for number in range(10):
        assert visitors.join(recorder, "u", f"a{number}")
    assert list(visitors._joined) == ["a7", "a8", "a9"]


@pytest.mark.parametrize(
    "cookies",
    [
        "salesmachine_visitor=123456",
        "salesmachine_visitor=",
        "salesmachine_visitor",
        f"salesmachine_visitor={ID.upper()}",
        f"salesmachine_visitor={ID}0",
        f"salesmachine_visitor={ID[:-1]}",
        f"salesmachine_visitor={ID[:-1]}\n",
        f"salesmachine_visitor={ID[:-1]}٣",
        f'salesmachine_visitor="{ID}"',
        f"salesmachine_visitor={ID.removeprefix('anonymous-')}",
        f"salesmachine_visitor={ID}, other=1",
        f"Salesmachine_Visitor={ID}",
        f"x_salesmachine_visitor={ID}",
        "salesmachine_visitor=" + "a" * 100_000,
        "=;;;=" * 10_000,
        "salesmachine_visitor=<script>",
        "\x00\xff",
    ],
)
def test_a_cookie_of_another_form_is_refused(recorder: Recorder, cookies: str) -> None:
    """A malformed cookie never becomes a uid or an alias, and is replaced."""
    visitors = AnonymousVisitors(AnonymousCookie())
    tracker = request(visitors, recorder, cookies)
    tracker.track("seen")
    given = value(tracker.set_cookie(is_page=True)).partition("=")[2]
    assert _anonymous._FORM.fullmatch(given)
    assert given != ID
    recorder.assert_tracked("seen", contact_uid=given)
    request(visitors, recorder, cookies).identify("u")
    assert not any("alias" in each for each in recorder.messages)


def test_the_cookie_is_found_among_others() -> None:
    """The cookie is found among broken and repeated ones."""
    header = f"a=1; broken; salesmachine_visitor=123; =x;salesmachine_visitor={ID} ;b=2"
    assert AnonymousCookie().read(header) == ID


def test_ids_are_random(recorder: Recorder) -> None:
    """An id has 128 random bits."""
    visitors = AnonymousVisitors(AnonymousCookie())
    assert len({request(visitors, recorder).anonymous_id for _ in range(1000)}) == 1000


@pytest.mark.parametrize("https", [False, True])
def test_the_attributes_of_the_cookie(recorder: Recorder, https: bool) -> None:
    """The cookie is HttpOnly and SameSite=Lax, and Secure where the request came by https."""
    cookie = AnonymousCookie(name="v", max_age=60, path="/shop", domain="example.com")
    tracker = request(AnonymousVisitors(cookie), recorder, https=https)
    uid = tracker.anonymous_id
    expected = f"v={uid}; Path=/shop; Max-Age=60; HttpOnly; SameSite=Lax; Domain=example.com"
    assert tracker.set_cookie(is_page=False) == expected + ("; Secure" if https else "")


def test_secure_may_be_forced(recorder: Recorder) -> None:
    """Secure can be forced behind a proxy that does not report https."""
    tracker = request(AnonymousVisitors(AnonymousCookie(secure=True)), recorder)
    assert (tracker.set_cookie(is_page=True) or "").endswith("; Secure")
    tracker = request(AnonymousVisitors(AnonymousCookie(secure=False)), recorder, https=True)
    assert (tracker.set_cookie(is_page=True) or "").endswith("SameSite=Lax")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a;b"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": None}, "name"),
        ({"path": "shop"}, "path"),
        ({"path": "/; Domain=evil.example"}, "path"),
        ({"path": "/\r\nX: y"}, "path"),
        ({"domain": "example.com; Path=/"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": 401 * 86400}, "max_age"),
    ],
)
def test_a_cookie_that_no_browser_takes_is_a_mistake(options: Any, named: str) -> None:
    """An invalid cookie configuration raises at construction."""
    with pytest.raises(ConfigError, match=f"AnonymousCookie.{named}"):
        AnonymousCookie(**options)


@pytest.mark.parametrize("source", [AnonymousCookie, "cookie", True, 7])
def test_what_is_neither_a_cookie_nor_a_callable_is_a_mistake(source: Any) -> None:
    """A value that is neither a cookie nor a callable raises, and so does the class itself."""
    with pytest.raises(ConfigError, match=r"anonymous_id must be an AnonymousCookie\(\.\.\.\) or a callable"):
        AnonymousVisitors(source)


def test_a_callable_gives_the_id(recorder: Recorder) -> None:
    """An id from a callable, as of a session, sets no cookie, and its alias is sent once."""
    visitors = AnonymousVisitors(lambda _: "session-7")
    tracker = request(visitors, recorder)
    tracker.track("seen")
    assert tracker.set_cookie(is_page=True) is None
    for _ in range(3):
        later = request(visitors, recorder)
        later.identify("u")
        later.track("seen")
    assert [each["contact_uid"] for each in recorder.messages] == ["session-7", "u", "u", "u", "u"]
    assert [each["alias"] for each in recorder.messages if "alias" in each] == ["session-7"]


@pytest.mark.parametrize("answer", [None, "", object(), LookupError("SECRET")])
def test_a_callable_without_an_id(recorder: Recorder, caplog: pytest.LogCaptureFixture, answer: Any) -> None:
    """A callable that returns no id tracks nothing and raises nothing."""

    def function(_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    tracker = request(AnonymousVisitors(function), recorder)
    assert tracker.track("seen") is False
    tracker.identify("u")
    assert tracker.track("seen") is True
    assert [each["contact_uid"] for each in recorder.messages] == ["u"]
    assert "SECRET" not in caplog.text


def test_an_id_that_is_the_contact_has_no_alias(recorder: Recorder) -> None:
    """An id equal to the contact's uid has no alias, because a server would reject it."""
    request(AnonymousVisitors(lambda _: 7), recorder).identify("7")
    assert recorder.messages == []


def test_a_logout_forgets_the_visitor(recorder: Recorder) -> None:
    """`identify(None)` removes the cookie, and later calls track nothing."""
    tracker = request(AnonymousVisitors(AnonymousCookie()), recorder, f"salesmachine_visitor={ID}")
    tracker.identify(None)
    assert tracker.track("seen") is False
    assert "Max-Age=0" in (tracker.set_cookie(is_page=True) or "")
    assert recorder.messages == []


@pytest.mark.parametrize("cache_control", ["public, max-age=60", "max-age=60, S-MaxAge=5", "Public", "s-maxage=60"])
def test_an_answer_for_many_visitors_has_no_cookie(recorder: Recorder, cache_control: str) -> None:
    """A response that a shared cache may store has no cookie, because visitors would share the id."""
    visitors = AnonymousVisitors(AnonymousCookie())
    tracker = request(visitors, recorder)
    assert tracker.set_cookie(is_page=True, cache_control=cache_control) is None
    assert tracker.pageview({"visit_url": "/"}) is False
    login = request(visitors, recorder, f"salesmachine_visitor={ID}")
    login.identify("u")
    assert login.set_cookie(is_page=True, cache_control=cache_control) is None


@pytest.mark.parametrize("cache_control", ["", "private", "no-cache, no-store", "max-age=60", "no-public"])
def test_an_answer_for_one_visitor_has_a_cookie(recorder: Recorder, cache_control: str) -> None:
    """A response that is private to one visitor has the cookie."""
    tracker = request(AnonymousVisitors(AnonymousCookie()), recorder)
    assert tracker.set_cookie(is_page=True, cache_control=cache_control) is not None


def test_what_is_tracked_after_the_answer_began_needs_a_cookie(recorder: Recorder) -> None:
    """A call after the start of the response is dropped without a cookie, because its id would be lost."""
    visitors = AnonymousVisitors(AnonymousCookie())
    tracker = request(visitors, recorder)
    assert tracker.set_cookie(is_page=False) is None
    assert tracker.track("row") is False
    assert tracker.anonymous_id is None
    known = request(visitors, recorder, f"salesmachine_visitor={ID}")
    assert known.set_cookie(is_page=False) is None
    assert known.track("row") is True
    assert known.set_cookie(is_page=True) is None  # once


def test_without_consent_there_is_neither_cookie_nor_id(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """Without consent no id is made, and an existing cookie is removed."""
    visitors = AnonymousVisitors(AnonymousCookie(consent=lambda scope: scope.get("consent")))
    tracker = request(visitors, recorder)
    assert tracker.track("seen") is False
    assert tracker.set_cookie(is_page=True) is None
    withdrawn = request(visitors, recorder, f"salesmachine_visitor={ID}")
    withdrawn.identify("u")
    assert "Max-Age=0" in (withdrawn.set_cookie(is_page=True) or "")
    assert recorder.messages == []

    def broken(_: Any) -> bool:
        raise LookupError("SECRET")

    tracker = request(AnonymousVisitors(AnonymousCookie(consent=broken)), recorder)
    assert tracker.track("seen") is False
    assert "the consent callable raised LookupError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_failing_alias_never_raises_in_the_request(caplog: pytest.LogCaptureFixture) -> None:
    """A failing alias raises nothing in `identify`."""

    class Broken(Recorder):
        def alias(self, *args: Any, **kwargs: Any) -> bool:
            raise RuntimeError("SECRET")

    tracker = request(AnonymousVisitors(AnonymousCookie()), Broken(), f"salesmachine_visitor={ID}")
    with caplog.at_level(logging.ERROR):
        tracker.identify({"not": "a uid"})  # type: ignore[arg-type]
    assert "the alias of a visitor failed: RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


def test_outside_of_a_request_there_is_no_anonymous_id(recorder: Recorder) -> None:
    """A tracker made without an integration has no anonymous id."""
    assert RequestTracker(recorder, None, None).anonymous_id is None
    assert RequestTracker(recorder, None, None).set_cookie(is_page=True) is None
