"""What is shown cannot steer a terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async.cli.terminal import fail, harmless, harmless_json, note, warn

HOSTILE = "\x1b]0;title\x07 \x9b31m \u202eevil \r\n \u2028 \x7f \ud800 \U000e0041"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 ✓", "plain é 日本 ✓"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
    ],
)
def test_harmless(text: str, shown: str) -> None:
    """Controls and invisible characters become escapes; letters of any language stay."""
    assert harmless(text) == shown


@given(st.text())
def test_harmless_json(text: str) -> None:
    """Encoded JSON means the same afterwards."""
    shown = harmless_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert harmless(shown) == shown


def test_messages_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in a message, it is one line on stderr, without markup and control characters."""
    note(f"[bold]x[/] {HOSTILE}")
    warn(HOSTILE)
    with pytest.raises(BaseException, match="5"):
        fail(HOSTILE, code=5)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.split("\n")
    assert len(lines) == 4
    assert lines[0].startswith("[bold]x[/] ")
    assert lines[1].startswith("WARNING: ")
    assert lines[2].startswith("Error: ")
    assert all(harmless(line) == line for line in lines)
