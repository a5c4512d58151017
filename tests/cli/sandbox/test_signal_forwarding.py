"""`salesmachine sandbox exec` and signals: each reaches the command exactly once, from whatever sends it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import terminals
from tests.support.cli_process import command, environment

pytestmark = pytest.mark.slow

# Prints each signal that it gets, and ends at the last one.
LISTENER = """
import os, signal, time
last = signal.SIGRTMAX
def show(number, frame):
    os.write(1, b"<%d>" % number)
    if number == last:
        os._exit(7)
for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(each, show)
os.write(1, b"[ready]")
while True:
    time.sleep(0.05)  # not signal.pause(), which a signal that comes just before it does not end
"""
# It has the highest number, so that Python and the kernel deliver it behind all others.
LAST = signal.SIGRTMAX
SIGNALS = [
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
    *(signal.SIGWINCH, signal.SIGRTMIN),
]

Send = Callable[[int, int], object]
SENDERS = pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the process", "to its group"])


@pytest.fixture
def listener(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "listener.py"
    path.write_text(LISTENER)
    return ("sandbox", "exec", "--quiet", "--", sys.executable, "-I", str(path))


async def in_terminal(*arguments: str, press: list[tuple[str, terminals.Press]]) -> terminals.Shown:
    return await terminals.in_terminal(*arguments, extra={}, press=press)


@SENDERS
@pytest.mark.parametrize("number", SIGNALS, ids=str)
async def test_in_the_foreground_of_a_terminal(listener: tuple[str, ...], number: int, send: Send) -> None:
    """A signal from another process reaches the command once, though a terminal is there."""
    status, text = await in_terminal(
        *listener,
        press=[("[ready]", lambda pid: send(pid, number)), (f"<{number}>", lambda pid: os.kill(pid, LAST))],
    )
    assert (status, text.count(f"<{number}>")) == (7, 1), text


@pytest.mark.parametrize(
    ("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)], ids=["Ctrl-C", "Ctrl-\\"]
)
async def test_keys_of_a_terminal(listener: tuple[str, ...], key: str, number: int) -> None:
    """A signal that the terminal sends to the whole group is not forwarded."""
    status, text = await in_terminal(
        *listener, press=[("[ready]", key), (f"<{number}>", lambda pid: os.kill(pid, LAST))]
    )
    assert (status, text.count(f"<{number}>")) == (7, 1), text


@SENDERS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_in_a_session_without_a_terminal(listener: tuple[str, ...], number: int, send: Send) -> None:
    """Signals are forwarded in a session without a terminal, as of cron, a service manager or CI."""
    with subprocess.Popen(
        command(*listener), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(), start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(len("[ready]")) == b"[ready]"
        send(process.pid, number)
        expected = b"<%d>" % number
        assert process.stdout.read(len(expected)) == expected
        process.send_signal(LAST)
        assert process.stdout.read() == b"<%d>" % LAST
        assert process.wait(terminals.DEADLINE) == 7


async def test_a_command_that_left_the_group(tmp_path: Path) -> None:
    """A command that left the group gets signals sent to the group, but no keys of the terminal."""
    path = tmp_path / "listener.py"
    path.write_text(f"import os\nos.setsid()\n{LISTENER}")
    status, text = await in_terminal(
        *("sandbox", "exec", "--quiet", "--", sys.executable, "-I", str(path)),
        press=[
            ("[ready]", "\x03"),
            # The terminal shows ^C when it has sent the signal.
            ("^C", lambda pid: os.killpg(pid, signal.SIGTERM)),
            (f"<{signal.SIGTERM}>", lambda pid: os.kill(pid, LAST)),
        ],
    )
    assert status == 7
    assert text.count(f"<{signal.SIGTERM}>") == 1
    assert f"<{signal.SIGINT}>" not in text


@pytest.fixture
def bash() -> tuple[str, ...]:
    path = shutil.which("bash")
    if path is None:
        pytest.skip("there is no bash")
    return (path, "--norc", "--noprofile", "-i")


async def typed(bash: tuple[str, ...], press: list[tuple[str, terminals.Press]]) -> str:
    env = environment(TERM="dumb", PS1="$ ", HISTFILE="")
    return (await asyncio.to_thread(terminals.play, bash, press, env)).text


@pytest.mark.parametrize("target", ["$!", "%1"], ids=["to the process", "to its group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
async def test_a_background_job(bash: tuple[str, ...], listener: tuple[str, ...], number: int, target: str) -> None:
    """A job in the background of a shell gets each signal once, and none of the keys."""
    line = shlex.join(command(*listener))
    text = await typed(
        bash,
        [
            ("$ ", f"{line} &\n"),
            ("[ready]", "\x03"),
            ("^C", f"kill -{number} {target}\n"),
            (f"<{number}>", f"kill -{LAST} $!; wait $!; echo ended: $?\n"),
            ("ended: 7", "exit\n"),
        ],
    )
    assert text.count(f"<{number}>") == 1, text
    assert "ended: 7" in text


async def test_stopped_by_a_key_and_continued(bash: tuple[str, ...], listener: tuple[str, ...]) -> None:
    """Ctrl-Z stops the sandbox, the command gets it once at most; `fg` continues both; keys then reach the command."""
    text = await typed(
        bash,
        [
            ("$ ", f"{shlex.join(command(*listener))}; echo ended: $?\n"),
            ("[ready]", "\x1a"),
            ("Stopped", "fg; echo ended: $?\n"),
            (f"<{signal.SIGCONT}>", "\x03"),
            (f"<{signal.SIGINT}>", lambda pid: os.kill(child_of(pid), LAST)),
            ("ended: 7", "exit\n"),
        ],
    )
    assert "ended: 7" in text
    assert text.count(f"<{signal.SIGINT}>") == 1, text
    # SIGCONT discards a SIGTSTP that the command has not handled yet.
    assert text.count(f"<{signal.SIGTSTP}>") <= 1, text


async def test_stopped_by_another_process_and_continued(bash: tuple[str, ...], listener: tuple[str, ...]) -> None:
    """`kill -TSTP` of the sandbox alone stops the command too, as `kill -CONT` continues it."""
    text = await typed(
        bash,
        [
            ("$ ", f"{shlex.join(command(*listener))} &\n"),
            ("[ready]", "kill -TSTP $!; until jobs | grep -q Stopped; do sleep 0.05; done; kill -CONT $!\n"),
            (f"<{signal.SIGCONT}>", f"kill -{LAST} $!; wait $!; echo ended: $?\n"),
            ("ended: 7", "exit\n"),
        ],
    )
    assert "ended: 7" in text
    assert text.count(f"<{signal.SIGTSTP}>") <= 1, text


def child_of(pid: int) -> int:
    """The pid of the one child of a process."""
    return int(subprocess.run(("ps", "-o", "pid=", "--ppid", str(pid)), capture_output=True, check=True).stdout)
