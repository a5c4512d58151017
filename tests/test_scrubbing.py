"""Helpers for before_send."""

from __future__ import annotations

from typing import Any

import pytest

from salesmachine_async import ConfigError, sample, scrub
from salesmachine_async.testing import Recorder

X = "[redacted]"


@pytest.mark.parametrize(
    ("patterns", "params", "sent"),
    [
        (("email",), {"email": "e", "name": "n"}, {"email": X, "name": "n"}),
        (("email",), {"user": {"email": "e"}}, {"user": {"email": "e"}}),
        (("user.email",), {"user": {"email": "e", "n": 1}}, {"user": {"email": X, "n": 1}}),
        (("*.pass",), {"pass": "p", "a": {"b": {"pass": "p"}}}, {"pass": X, "a": {"b": {"pass": X}}}),
        (("card*",), {"card": 1, "card_number": 2, "n": 3}, {"card": X, "card_number": X, "n": 3}),
        (("cards.no",), {"cards": [{"no": 1}, {"no": 2, "n": 3}]}, {"cards": [{"no": X}, {"no": X, "n": 3}]}),
        (("user",), {"user": {"email": "e"}}, {"user": X}),
        (("user",), {"user": None}, {"user": X}),
        (("Email",), {"email": "e"}, {"email": "e"}),
        (("x",), {}, {}),
    ],
)  # fmt: skip
def test_scrub(patterns: tuple[str, ...], params: dict[str, Any], sent: dict[str, Any]) -> None:
    """Messages of all kinds are scrubbed, and the original stays unchanged."""
    recorder = Recorder(before_send=scrub(*patterns))
    given = repr(params)
    assert recorder.track("u", "e", params)
    assert recorder.contact("u", params)
    assert recorder.account("a", params)
    assert recorder.alias("u", "v")
    assert [message.get("params") for message in recorder.messages] == [sent, sent, sent, None]
    assert repr(params) == given


def test_long_and_many_paths_are_scrubbed_as_well() -> None:
    """A visitor may send any number of keys, of any length: what is remembered of them is bounded."""
    recorder = Recorder(before_send=scrub("*.password", "*.pass*a*b*c", "secret[0-9]", "s?lt"))
    params = {"k" * 1000: {"password": "p"}, "secret7": 1, "salt": 2, "n\nx": {"password": "p"}, "passabc": 3, "n": 4}
    params |= {f"key{number}": {"password": "p", "n": number} for number in range(2000)}
    for _ in range(2):
        recorder.clear()
        assert recorder.track("u", "e", params)
        (message,) = recorder.messages
        sent = message["params"]
        assert sent.pop("n") == 4
        assert [sent.pop(name) for name in ("secret7", "salt", "passabc")] == [X] * 3
        assert {each["password"] for each in sent.values()} == {X}
        assert sent["key1999"]["n"] == 1999


@pytest.mark.parametrize("patterns", [(), ("",), (7,), (None,)])
def test_patterns_that_are_none(patterns: Any) -> None:
    """A mistake is found at the start."""
    with pytest.raises(ConfigError, match="patterns"):
        scrub(*patterns)


def test_a_sample_is_stable_and_about_as_large_as_asked_for() -> None:
    """All messages of a contact are kept or all dropped, with its uid as an int or a text."""
    recorder = Recorder(before_send=sample(0.1))
    kept = [number for number in range(10_000) if recorder.track(number, "e")]
    assert 850 < len(kept) < 1150
    again = Recorder(before_send=sample(0.1))
    assert [number for number in range(10_000) if again.contact(str(number))] == kept
    assert all(again.alias(number, "other") for number in kept)
    larger = Recorder(before_send=sample(0.5))
    assert all(larger.track(number, "e") for number in kept)


def test_all_and_none() -> None:
    """The ends of the range."""
    assert all(Recorder(before_send=sample(1)).track(f"u{number}", "e") for number in range(1000))
    assert not any(Recorder(before_send=sample(0)).account(f"a{number}") for number in range(1000))
    assert Recorder(before_send=sample(1)).track("ü😀", "e")


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), True, "0.1", None])
def test_a_rate_that_is_none(rate: Any) -> None:
    """A mistake is found at the start."""
    with pytest.raises(ConfigError, match="between 0 and 1"):
        sample(rate)
