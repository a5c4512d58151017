"""What an answer means."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.response import (
    MAX_SERVER_MESSAGE,
    Outcome,
    Verdict,
    outcome,
    retry_after,
    server_message,
)
from salesmachine_async.errors import (
    ConnectionFailed,
    DeliveryError,
    RateLimited,
    Rejected,
    RequestTimeout,
    ServerFailure,
    Unauthorized,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
IN_A_MINUTE = "Sun, 22 Nov 2026 12:01:00 GMT"
AN_HOUR_EARLIER = "Sun, 22 Nov 2026 11:00:00 GMT"

# Written down here a second time, status by status, as the documents and the fault matrix have it.
PARKED = [*range(300, 400), 401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426, 451, 501, 505, 511]
EXPECTED = {
    **dict.fromkeys(range(100, 701), Verdict.RETRY),
    **dict.fromkeys(range(400, 500), Verdict.REJECTED),
    **dict.fromkeys(range(200, 300), Verdict.DELIVERED),
    **dict.fromkeys(PARKED, Verdict.PARKED),
    408: Verdict.RETRY,
    413: Verdict.TOO_LARGE,
    425: Verdict.RETRY,
    429: Verdict.PAUSE,
    503: Verdict.PAUSE,
}


@pytest.mark.parametrize("status", range(100, 701))
def test_verdict_of_a_status(status: int) -> None:
    """Every status has its verdict, and an error unless it is a success."""
    result = outcome(status, {}, now=NOW)
    assert result.verdict is EXPECTED[status]
    assert result.status == status
    assert (result.error is None) is (200 <= status <= 299)
    if result.error is not None:
        assert result.error.status == status
        assert str(status) in str(result.error)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (101, ServerFailure, "101"),
        (302, Rejected, "check the base URL"),
        (400, Rejected, "400"),
        (401, Unauthorized, "SALESMACHINE_API_TOKEN"),
        (402, Rejected, "plan"),
        (403, Unauthorized, "SALESMACHINE_API_SECRET"),
        (404, Rejected, "SALESMACHINE_API_URL"),
        (405, Rejected, "SALESMACHINE_API_URL"),
        (407, Rejected, "proxy"),
        (408, RequestTimeout, "408"),
        (410, Rejected, "gone"),
        (413, Rejected, "413"),
        (429, RateLimited, "429"),
        (500, ServerFailure, "500"),
        (503, ServerFailure, "503"),
        (600, ServerFailure, "600"),
    ],
)
def test_error_of_a_status(status: int, kind: type[DeliveryError], says: str) -> None:
    """A failure is an error of the documented class, whose text says what to do."""
    error = outcome(status, {}, now=NOW).error
    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "the server answered 400"),
        (401, "the server answered 401: check SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET"),
        (399, "the server answered 399, a redirect, which is never followed: check the base URL"),
        (499, "the server answered 499"),
    ],
)
def test_the_whole_text_of_an_error(status: int, text: str) -> None:
    """A hint stands behind the status, where there is one."""
    error = outcome(status, {}, now=NOW).error
    assert error is not None
    assert error.args[0] == text
    assert type(error) is not ServerFailure


def test_what_the_server_says_is_redacted() -> None:
    """Its message may quote the request, with the key."""
    error = outcome(
        500, {}, now=NOW, body=b'{"error": "no SECRET"}', redact=lambda text: text.replace("SECRET", "…")
    ).error
    assert error is not None
    assert error.server_message == "no …"
    assert outcome(500, {}, now=NOW).error.server_message is None  # type: ignore[union-attr]


def test_a_success_needs_nothing_but_its_status() -> None:
    """A 2xx answer is a delivery, whatever its headers and body contain."""
    assert outcome(201, {"Retry-After": "9"}, now=NOW, body=b'{"error": "no"}') == Outcome(
        verdict=Verdict.DELIVERED, status=201
    )


def test_an_outcome_without_an_answer_is_tried_again() -> None:
    """A request that failed below HTTP has no status and is retried by default."""
    error = ConnectionFailed("refused")
    assert Outcome.failed(error) == Outcome(verdict=Verdict.RETRY, error=error)
    assert Outcome.failed(error, Verdict.PARKED).verdict is Verdict.PARKED


# Retry-After.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("2.5", 2.5),
        (" 30 ", 30.0),
        ("1000000000", 1e9),
        (None, None),
        ("", None),
        ("   ", None),
        ("-1", None),
        ("-0.5", None),
        ("nan", None),
        ("NaN", None),
        ("inf", None),
        ("-inf", None),
        ("Infinity", None),
        ("1e400", None),
        ("soon", None),
        ("0x10", None),
        ("1,5", None),
        ("1 2", None),
        ("12 seconds", None),
        ("\x00", None),
        (",", None),
        ("Sun, 99 Foo 2026 99:99:99 GMT", None),
        ("Sun, 22 Nov 2026 12:01:00", 60.0),
        (IN_A_MINUTE, 60.0),
        ("Sunday, 22-Nov-26 12:01:00 GMT", 60.0),
        ("Sun Nov 22 12:01:00 2026", 60.0),
        ("Sun, 22 Nov 2026 13:01:00 +0100", 60.0),
        (AN_HOUR_EARLIER, 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Sun, 22 Nov 99999 12:00:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Whole and broken seconds and HTTP-dates are parsed; malformed or negative values count as absent."""
    assert retry_after(value, date=None, now=NOW) == seconds


def test_retry_after_of_a_far_year_is_a_number() -> None:
    """A date in the year 9999 overflows nothing; the policy caps it later."""
    seconds = retry_after("Fri, 31 Dec 9999 23:59:59 GMT", date=None, now=NOW)
    assert seconds is not None
    assert 2e11 < seconds < 3e11


def test_retry_after_of_endless_digits_raises_nothing() -> None:
    """A number beyond all floats is no number of seconds."""
    assert retry_after("9" * 400, date=None, now=NOW) is None


def test_a_date_is_measured_against_the_servers_clock() -> None:
    """A Date header makes Retry-After independent of the local clock."""
    wrong = NOW + timedelta(days=400)
    assert retry_after(IN_A_MINUTE, date=AN_HOUR_EARLIER, now=wrong) == 3660.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "\x00", "Sun, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_without_a_readable_date_header_is_measured_here(date: str | None) -> None:
    """Without a readable Date header the local clock is used."""
    assert retry_after(IN_A_MINUTE, date=date, now=NOW) == 60.0


@given(st.text(max_size=60), st.none() | st.text(max_size=60))
def test_retry_after_survives_any_text(value: str, date: str | None) -> None:
    """Any header value gives a finite number or None."""
    seconds = retry_after(value, date=date, now=NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(string.printable)), max_size=6))
def test_retry_after_survives_dates_with_errors(edits: list[tuple[int, str]]) -> None:
    """A date with a few wrong characters is a date or absent, never an exception."""
    text = list(IN_A_MINUTE)
    for place, character in edits:
        text[place % len(text)] = character
    seconds = retry_after("".join(text), date="".join(reversed(text)), now=NOW)
    assert seconds is None or seconds >= 0


def test_the_wait_is_in_the_outcome_and_its_error() -> None:
    """The Retry-After of the server is kept for the decision and for the user."""
    result = outcome(429, {"Retry-After": IN_A_MINUTE, "Date": AN_HOUR_EARLIER}, now=NOW)
    assert result.retry_after == 3660.0
    assert result.error is not None
    assert result.error.retry_after == 3660.0


# The server's words.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "no such thing"}', "no such thing"),
        ('{"error": "não"}'.encode(), "não"),
        (b'{"error": {"code": 1}}', '{"code":1}'),
        (b'{"error": [1, 2]}', "[1,2]"),
        (b'{"error": 3}', "3"),
        (b'{"error": ""}', ""),
        (b"", None),
        (b"<html>", None),
        (b"null", None),
        (b"[1]", None),
        (b'"error"', None),
        (b"3", None),
        (b'{"message": "x"}', None),
        (b'{"error": "\\ud800"}', None),
        (b'{"error": "\xff"}', None),
        (b'{"error": ' + b"[" * 5000, None),
    ],
)
def test_server_message(body: bytes, message: str | None) -> None:
    """The value of ``error`` in the body is kept; any other body has no server message."""
    assert server_message(body) == message


@pytest.mark.parametrize("body", [b'{"error": "%s"}' % (b"x" * 9000), b'{"error": ["%s"]}' % (b"x" * 9000)])
def test_a_long_server_message_is_cut(body: bytes) -> None:
    """No more than 500 characters are kept."""
    assert len(server_message(body) or "") == MAX_SERVER_MESSAGE == 500


def test_the_servers_words_are_kept_out_of_the_errors_text() -> None:
    """A server may quote the request, so its words are an attribute and not in ``str(error)``."""
    error = outcome(400, {}, now=NOW, body=b'{"error": "bad email elon@example.com"}').error
    assert error is not None
    assert error.server_message == "bad email elon@example.com"
    assert "elon" not in str(error)
    assert "elon" not in repr(error)


# Redirects.


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://other.example/v1/batch", "https://other.example/v1/batch"),
        ("https://other.example", "https://other.example"),
        ("https://other.example:8443/v1", "https://other.example:8443/v1"),
        ("/v2/batch", "/v2/batch"),
        ("https://other.example/v1?token=SECRET", "https://other.example/v1"),
        ("https://other.example/v1#SECRET", "https://other.example/v1"),
        ("https://user:SECRET@other.example/v1", "https://other.example/v1"),
        ("https://user@SECRET@other.example/v1", "https://other.example/v1"),
        ("/v2?SECRET", "/v2"),
    ],
)
def test_where_a_redirect_points(location: str, shown: str) -> None:
    """The target of a redirect is shown without its query, fragment and user."""
    error = str(outcome(302, {"Location": location}, now=NOW).error)
    assert error.endswith(f"(it points to {shown})")
    assert "SECRET" not in error


@pytest.mark.parametrize("location", ["", "?SECRET", "https://é.example/", "/a\nSECRET", "/a\x1b[31mSECRET", "/\x7f"])
def test_an_odd_redirect_target_is_not_shown(location: str) -> None:
    """A target with control or other unusual characters is not shown."""
    error = str(outcome(302, {"Location": location}, now=NOW).error)
    assert "points to" not in error
    assert "SECRET" not in error


def test_a_long_redirect_target_is_cut() -> None:
    """A log line stays one of bearable length."""
    assert str(outcome(302, {"Location": "/" + "x" * 199}, now=NOW).error).count("x") == 199
    assert str(outcome(302, {"Location": "/" + "x" * 200}, now=NOW).error).count("x") == 199
    assert len(str(outcome(302, {"Location": "/" + "x" * 9000}, now=NOW).error)) < 400


def test_other_answers_do_not_tell_a_location() -> None:
    """A Location outside a redirect is not shown."""
    assert "points to" not in str(outcome(404, {"Location": "/x"}, now=NOW).error)


@pytest.mark.parametrize(
    "location",
    [
        "//user:SECRET@other.example/v1",
        "https:user:SECRET@other.example/v1",
        "https:/user:SECRET@other.example/v1",
        "https:\\\\user:SECRET@other.example/v1",
        "HTTPS:///user:SECRET@other.example/v1",
    ],
)
def test_userinfo_is_hidden_in_every_form_of_a_target(location: str) -> None:
    """A target without a scheme, or one that only browsers understand, hides its user too."""
    assert "SECRET" not in str(outcome(307, {"Location": location}, now=NOW).error)


@pytest.mark.parametrize("location", ["https://h.example/@me", "https://h.example/a@b/c"])
def test_an_at_sign_in_the_path_is_no_user(location: str) -> None:
    """A secret may be part of an unusual URL, so such a target is not shown."""
    error = str(outcome(302, {"Location": location}, now=NOW).error)
    assert error == "the server answered 302, a redirect, which is never followed: check the base URL"


def test_only_the_first_scheme_of_a_redirect_target_counts() -> None:
    """A URL within the path stays part of the path."""
    error = str(outcome(302, {"Location": "https://SECRET@h.example/to/http://other"}, now=NOW).error)
    assert error.endswith("(it points to https://h.example/to/http://other)")


@pytest.mark.parametrize("status", [300, 302, 399])
def test_a_redirect_without_a_target_ends_with_what_to_check(status: int) -> None:
    """Every 3xx is described as a redirect, with or without a Location."""
    says = f"the server answered {status}, a redirect, which is never followed: check the base URL"
    assert str(outcome(status, {}, now=NOW).error) == says
