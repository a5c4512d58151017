"""Output cannot control a terminal."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async.cli.terminal import ascii_json, fail, harmless, harmless_json, note, warn
from tests.support.cli_process import environment

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
    """Control and invisible characters become escapes; letters of any language stay."""
    assert harmless(text) == shown


@given(st.text())
def test_harmless_json(text: str) -> None:
    """Escaped JSON keeps its meaning."""
    shown = harmless_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert harmless(shown) == shown
    shown = ascii_json(shown)
    assert json.loads(shown) == {text: text}
    assert shown.isascii()


def test_messages_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Any message is one line on stderr, without markup and control characters."""
    note(f"[bold]x[/] {HOSTILE}")
    warn(HOSTILE)
    with pytest.raises(BaseException, match="5"):
        fail(HOSTILE, code=5)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.split("\n")
    assert len(lines) == 4
    assert lines[0].startswith("[bold]x[/] ")
    assert lines[1].startswith("salesmachine: warning: ")
    assert lines[2].startswith("salesmachine: error: ")
    assert all(harmless(line) == line for line in lines)


async def shell(code: str, **extra: str) -> tuple[int | None, str, str]:
    """Run `$salesmachine …` in a shell."""
    env = environment(salesmachine=f"{sys.executable} -m salesmachine_async", **extra)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("bash", "-c", code, stdout=pipe, stderr=pipe, env=env)
    out, err = await process.communicate()
    return process.returncode, out.decode("latin-1"), err.decode()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_stdout_that_cannot_be_written() -> None:
    """A full disk or a closed stdout is one line and status 1."""
    ended = await shell("$salesmachine completion bash > /dev/full")
    assert ended == (1, "", "salesmachine completion: error: cannot write to stdout: No space left on device\n")
    assert await shell("$salesmachine completion bash >&-") == (
        1,
        "",
        "salesmachine completion: error: stdout is closed\n",
    )


@pytest.mark.slow
async def test_an_encoding_that_lacks_characters() -> None:
    """Characters that the encoding of stdout lacks are escaped."""
    code = "$salesmachine contact 日本é; $salesmachine list contacts"
    status, out, err = await shell(
        f"$salesmachine sandbox exec -q -- bash -c '{code}'", PYTHONIOENCODING="latin-1:strict"
    )
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("Delivered: contact \\u65e5\\u672cé (")
    assert json.loads(second)["unique_id"] == "日本é"
    assert second.isascii()
