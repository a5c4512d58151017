"""Child processes."""

import contextlib
import signal
from pathlib import Path

import pytest

from salesmachine_async.cli.demo import children
from salesmachine_async.cli.demo.children import ChildError, child

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
STUBBORN = "import time\nprint('{}', flush=True)\ntime.sleep(3600)"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that children can run, by the name of its file."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "acting.py"


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_json_lines(module: Path) -> None:
    """Orders and answers are JSON lines, and the child ends with the block."""
    module.write_text(ECHO)
    async with child("acting") as echo:
        await echo.send({"a": [1, "é"]})
        assert await echo.receive() == {"a": [1, "é"]}
        assert not gone(echo.pid)
    assert gone(echo.pid)


async def test_a_child_that_fails_is_quoted(module: Path) -> None:
    """The error is the last line of the child's stderr."""
    module.write_text("import sys\nsys.exit('first\\nno room')")
    async with child("acting") as failing:
        with pytest.raises(ChildError, match=r"^no room$"):
            await failing.receive()


async def test_a_child_that_ends_silently(module: Path) -> None:
    """A child without output is an error too."""
    module.write_text("")
    async with child("acting") as silent:
        with pytest.raises(ChildError, match="ended unexpectedly"):
            await silent.receive()


async def test_sending_to_a_child_that_ended(module: Path) -> None:
    """A broken pipe is reported by the next receive."""
    module.write_text("import sys\nsys.exit('no room')")
    async with child("acting") as failing:
        for _ in range(2):
            await failing.send({"filler": "x" * 2**22})
            with pytest.raises(ChildError, match=r"^no room$"):
                await failing.receive()


@pytest.mark.parametrize("error", [None, RuntimeError])
async def test_a_stubborn_child_is_killed(
    module: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    """A child that ignores the end of its stdin is killed, also after an error."""
    monkeypatch.setattr(children, "GRACE_SECONDS", 0.1)
    module.write_text(STUBBORN)
    pid = 0
    with pytest.raises(error) if error else contextlib.nullcontext():
        async with child("acting") as stubborn:
            pid = stubborn.pid
            await stubborn.receive()
            if error:
                raise error
    assert gone(pid)


async def test_children_do_not_hear_ctrl_c(module: Path) -> None:
    """A child has a session of its own, so that Ctrl-C reaches only the parent."""
    module.write_text("import json, os\nprint(json.dumps({'alone': os.getsid(0) == os.getpid()}))")
    async with child("acting") as alone:
        assert await alone.receive() == {"alone": True}
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
