"""The command as such: version, help, and the missing extra."""

import importlib
import re
import subprocess
import sys

import pytest
from typer.main import get_command

from salesmachine_async import __version__
from salesmachine_async.cli import main
from salesmachine_async.cli.app import app
from salesmachine_async.cli.completion.tree import tree_of
from tests.cli.process import environment, run
from tests.cli.terminals import invoke


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["salesmachine", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version on stdout."""
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"salesmachine-async {__version__}\n"


async def test_module() -> None:
    """`python -m salesmachine_async` is the same command."""
    ended = await run("--version")
    assert ended == (0, f"salesmachine-async {__version__}\n", "")


def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--help names every command, and never a flag for a token or a secret."""
    assert run_main(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    for name in ("ping", "contact", "account", "track", "pageview", "alias", "list", "get", "delete", "request"):
        assert f"\n  {name} " in out
    assert out.index("Send:") < out.index("Read and manage:") < out.index("Try it locally:") < out.index("  sandbox ")
    assert "--token" not in out
    assert "\x1b" not in out


def test_no_command_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a command there is nothing to do: status 2."""
    assert run_main(monkeypatch) == 2


def commands() -> list[list[str]]:
    """List every command, as its words."""
    return [list(node.path[1:]) for node in tree_of(get_command(app)).walk()]


def test_help_is_light() -> None:
    """The help of no command imports anything that only running one needs, beyond the package itself."""
    code = (
        "import sys\n"
        "import salesmachine_async\n"
        "before = set(sys.modules)\n"
        "from salesmachine_async.cli import main\n"
        "heavy = {'aiohttp', 'asyncio', 'orjson', 'rich.console', 'salesmachine_async.sandbox', 'sqlite3'}\n"
        f"for words in {commands()!r}:\n"
        "    sys.argv = ['salesmachine', *words, '--help']\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert end.code == 0\n"
        "    print(*words, sorted((set(sys.modules) - before) & heavy), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert [line for line in ended.stderr.splitlines() if not line.endswith("[]")] == []


@pytest.mark.parametrize("words", commands(), ids=" ".join)
async def test_help_teaches(words: list[str]) -> None:
    """Every command tells what it does, shows an example that fits 100 columns, and takes no key."""
    ended = await invoke(*words, "--help")
    assert ended.status == 0
    assert not re.search(r"--(token|secret|password|key)", ended.out)
    assert all(len(line) <= 100 for line in ended.out.splitlines())
    assert f"salesmachine {' '.join(words)}".strip() in ended.out
    if words and words[0] not in ("demo", "completion"):
        assert len(re.findall(rf"^ +(\S.*)?salesmachine {' '.join(words)}", ended.out, re.MULTILINE)) >= 1
        assert re.search(r"SALESMACHINE_|--faults", ended.out)


def test_status_is_in_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first page tells what the exit status means, and where keys come from."""
    run_main(monkeypatch, "--help")
    out = " ".join(capsys.readouterr().out.split())
    for status in ("0 done", "2 used wrongly", "3 some rows", "4 refused", "5 server not reached", "130 interrupted"):
        assert status in out
    assert "SALESMACHINE_ACCESS_TOKEN" in out


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_the_missing_extra_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """Without typer or rich, one line says what to install, and the status is 2."""
    for name in [name for name in sys.modules if name.startswith("salesmachine_async.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert run_main(monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "The salesmachine command needs its extra: pip install 'salesmachine-async[cli]'\n"


def test_another_missing_module_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is missing for another reason is not explained away."""
    importlib.import_module("salesmachine_async.cli.app")
    monkeypatch.setitem(sys.modules, "salesmachine_async.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        main()
