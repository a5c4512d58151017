"""The language of --faults."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async.cli.sandbox.script import ScriptError, parse_faults
from salesmachine_async.sandbox import Fault


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("503", [Fault(status=503)]),
        (" 503*2 , 429 : retry_after = 2 ", [Fault(status=503, times=2), Fault(status=429, retry_after=2)]),
        ("503*", [Fault(status=503, times=None)]),
        ("503*2,latency=200ms*", [Fault(status=503, times=2), Fault(latency=0.2, times=None)]),
        ("ok*3,drop=after:path=/v1/*", [Fault(times=3), Fault(drop="after", path="/v1/*")]),
        ("latency=1.5:slow=2s", [Fault(latency=1.5, slow=2)]),
        ("500:probability=25%:seed=-1:times=always", [Fault(status=500, probability=0.25, seed=-1, times=None)]),
        ("500:probability=.5:times=3", [Fault(status=500, probability=0.5, times=3)]),
        ("502:commit,500:partial=10:commit=false", [Fault(status=502, commit=True), Fault(status=500, partial=10)]),
        (
            '503:retry_after="Wed, 21 Oct 2026 07:28:00 GMT"',
            [Fault(status=503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")],
        ),
        (r'400:body="{\"error\": \"a, b\"}",503', [Fault(status=400, body='{"error": "a, b"}'), Fault(status=503)]),
        ('raw="":times=2', [Fault(raw="", times=2)]),
        ("status=503:times=2", [Fault(status=503, times=2)]),
    ],
)
def test_scripts(text: str, faults: list[Fault]) -> None:
    """Every setting can be written."""
    assert parse_faults(text) == faults


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "at character 1: a status, ok or a setting is missing here"),
        ("503,", "at character 5: a status, ok or a setting is missing here"),
        ("503,,429", "at character 5: a status, ok or a setting is missing here"),
        ("503, latncy=2s", "at character 6 ('latncy=2s'): unknown setting; expected one of status, times,"),
        ("503:latency=2h", "at character 5 ('latency=2h'): a time must be written as 200ms, 2s or 1.5"),
        ("503*x", "at character 1 ('503*x'): unknown setting"),
        ("503:times=x", "at character 5 ('times=x'): a count must be a whole number or always"),
        ("ok, 999", "at character 5 ('999'): status must be from 200 to 599"),
        ("503*0", "at character 1 ('503*0'): times must be 1 or more"),
        ("drop=never", "at character 1 ('drop=never'): drop must be one of before, during, after"),
        ("503:drop=after", "at character 1 ('503'): drop excludes status, because no response is sent"),
        ("path=/v1/batch", "at character 1 ('path=/v1/batch'): it must follow a fault"),
        ("503:path=v1", "at character 1 ('503'): path must start with /"),
        ("503:partial=a", "at character 5 ('partial=a'): it must be a whole number"),
        ("503:probability=often", "at character 5 ('probability=often'): a probability must be written as 0.25 or 25%"),
        ("503:commit=maybe", "at character 5 ('commit=maybe'): it must be true or false"),
        ("503:body", "at character 5 ('body'): body needs a value"),
        ("503:body=", "at character 5 ('body='): body needs a value"),
        ('503:body="x', "at character 10 ('\"x'): the closing quotation mark is missing"),
        ('503:body="x"y', "at character 13 ('y'): a comma or a colon must come before it"),
        ('503:body=x"y"', "at character 11 ('\"y\"'): quotes must enclose a whole value"),
        ("503:seed=1:seed=2", "at character 12 ('seed=2'): seed is set twice"),
        ("503*2:times=3", "at character 7 ('times=3'): times is set twice"),
    ],
)
def test_what_is_wrong_and_where(text: str, problem: str) -> None:
    """An error names the character, the part and the problem."""
    with pytest.raises(ScriptError) as caught:
        parse_faults(text)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("latency=20ms*,503*3", 15),
        ("ok*,503", 5),
        ("503:times=always, latency=1s", 19),
        ("503*:path=/v1/*, 429:path=/v1/batch", 18),
        ("503*:path=/v1/*,503*:path=/v2/*,429", 33),
        ("503*:path=/*,429", 14),
        ("503*:path=/v1/batch,429:path=/v1/batch", 21),
    ],
)
def test_unreachable_steps(text: str, place: int) -> None:
    """A step that no request can reach is an error, which names its place."""
    with pytest.raises(ScriptError, match=rf"^at character {place} .*: unreachable, because a step before it applies"):
        parse_faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "503*3,latency=20ms*",
        "500:probability=10%:times=always,503",
        "503*:path=/v1/batch,429",
        "503*:path=/v1/*,429:path=/v2/*",
        "503*:path=/v1/b*,429:path=/v1/*",
    ],
)
def test_reachable_steps(text: str) -> None:
    """A step is reachable if an endless step before it spares a request."""
    assert len(parse_faults(text)) == 2


@given(st.text(alphabet='503ok*:,="\\ \tmslatency.%path/'))
def test_any_text(text: str) -> None:
    """Any text is a script or an error, never a crash."""
    with contextlib.suppress(ScriptError):
        assert all(isinstance(fault, Fault) for fault in parse_faults(text))
