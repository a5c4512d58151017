"""The command itself: version, help, and the missing extra."""

import importlib
import re
import subprocess
import sys

import click
import pytest

from salesmachine_async import __version__
from salesmachine_async.cli import main
from tests.support.cli_inside import invoke
from tests.support.cli_process import environment, run
from tests.support.cli_tree import command_of, command_paths, help_of


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["salesmachine", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version on stdout."""
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"salesmachine-async {__version__}\n"


@pytest.mark.slow
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
    """Without a command the status is 2."""
    assert run_main(monkeypatch) == 2


@pytest.mark.slow
def test_help_is_light() -> None:
    """Help imports nothing that only a running command needs."""
    code = (
        "import sys\n"
        "import salesmachine_async\n"
        "before = set(sys.modules)\n"
        "from salesmachine_async.cli import main\n"
        "heavy = {'aiohttp', 'asyncio', 'orjson', 'rich.console', 'salesmachine_async.sandbox', 'sqlite3'}\n"
        f"for words in {command_paths()!r}:\n"
        "    sys.argv = ['salesmachine', *words, '--help']\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert end.code == 0\n"
        "    print(*words, sorted((set(sys.modules) - before) & heavy), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert [line for line in ended.stderr.splitlines() if not line.endswith("[]")] == []


@pytest.mark.parametrize("words", command_paths(), ids=" ".join)
async def test_help_teaches(words: list[str]) -> None:
    """The help of every command has an example that fits 100 columns, and no option for a key."""
    ended = await invoke(*words, "--help")
    assert ended.status == 0
    assert not re.search(r"--(token|secret|password|key)", ended.out)
    assert all(len(line) <= 100 for line in ended.out.splitlines())
    assert f"salesmachine {' '.join(words)}".strip() in ended.out
    if words and words[0] not in ("demo", "completion"):
        assert len(re.findall(rf"^ +(\S.*)?salesmachine {' '.join(words)}", ended.out, re.MULTILINE)) >= 1
        if words[0] != "plan":  # it reads a file or an address, and needs no key
            assert re.search(r"SALESMACHINE_|--faults", ended.out)


@pytest.mark.parametrize("words", command_paths(), ids=" ".join)
async def test_help_shows_arguments_as_they_are_typed(words: list[str]) -> None:
    """Help shows neither braces nor types of Python."""
    ended = await invoke(*words, "--help")
    usage = ended.out.splitlines()[0]
    assert "{" not in usage
    assert "......" not in usage
    assert not re.search(r"<(str|int|float|Path|list)\b", ended.out)


@pytest.mark.parametrize("words", command_paths(), ids=" ".join)
def test_help_cuts_off_no_summary(words: list[str]) -> None:
    """The summary of each command is whole in the help above it, on a terminal of 80 columns."""
    usage, _, text = help_of(words).partition("\n")
    assert usage.startswith("Usage: ")
    assert not re.search(r"\.\.\.$", text, re.MULTILINE)


@pytest.mark.parametrize("words", command_paths(), ids=" ".join)
def test_help_says_every_default(words: list[str]) -> None:
    """The help of an option that has a default value says what it is."""
    for option in command_of(words).params:
        if isinstance(option, click.Option) and type(option.default) in (str, int, float):
            assert "default" in (option.help or "").lower(), option.opts


async def test_usage() -> None:
    """Optional arguments are in brackets, required ones are not."""
    for words, usage in (
        (("import",), "import [OPTIONS] FILE..."),
        (("get",), "get [OPTIONS] WHAT ID"),
        (("track",), "track [OPTIONS] UID EVENT [NAME=TEXT]..."),
        (("sandbox", "exec"), "sandbox exec [OPTIONS] CMD..."),
    ):
        assert (await invoke(*words, "--help")).out.splitlines()[0].strip() == f"Usage: salesmachine {usage}"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("list events", "salesmachine list: error: Invalid value for 'WHAT': 'events' is not one of 'contacts', "),
        ("get contacts 1", "'contacts' is not one of 'contact', 'account', 'note', 'activity', 'task', 'user'."),
        ("sandbox --port abc", "salesmachine sandbox: error: Invalid value for '--port': 'abc' is not a valid integer"),
        ("sandbox --port 99999", "'--port': 99999 is not in the range 0<=x<=65535."),
        ("demo --seconds x", "'--seconds': 'x' is not a valid float"),
        ("import --batch 0 a.csv", "'--batch': 0 is not in the range 1<=x<=10000."),
        ("sandbox --prot 1", "--prot"),
        ("get contact", "salesmachine get: error: Missing argument 'ID'."),
        ("nothing", "salesmachine: error: No such command 'nothing'"),
    ],
)
async def test_usage_errors(words: str, error: str) -> None:
    """A usage error has status 2; its line begins with the command."""
    ended = await invoke(*words.split())
    assert ended.status == 2
    assert error in ended.err.splitlines()[-1]
    assert ended.err.startswith("Usage: salesmachine ")


@pytest.mark.parametrize(
    "words", ["ping --token abcd", "--token abcd", "list contacts --api-token=abcd", "sandbox --key abcd"]
)
@pytest.mark.parametrize("option", ["--token", "--secret", "--key", "--api-token", "--password"])
async def test_keys_are_never_arguments(words: str, option: str) -> None:
    """The error for an option that would hold a key says where keys come from, and does not repeat the key."""
    ended = await invoke(*re.sub(r"--[a-z-]+", option, words, count=1).split())
    assert ended.status == 2
    assert f"No such option: {option}. Keys are never arguments" in ended.err
    assert "Did you mean" not in ended.err
    assert "abcd" not in ended.err


def test_status_is_in_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first page explains the exit statuses and the sources of keys."""
    run_main(monkeypatch, "--help")
    out = " ".join(capsys.readouterr().out.split())
    for status in ("0 done", "2 usage error", "3 some rows", "4 rejected", "5 server not reached", "130 interrupted"):
        assert status in out
    assert "SALESMACHINE_API_SECRET" in out
    assert "SALESMACHINE_ACCESS_TOKEN" in out


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_the_missing_extra_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """Without click or rich one line says what to install: status 2."""
    for name in [name for name in sys.modules if name.startswith("salesmachine_async.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert run_main(monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        "salesmachine: error: the command needs the extra [cli]: pip install 'click>=8.2' 'rich>=14'"
    )
    assert captured.err.count("\n") == 1


def test_another_missing_module_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another missing module keeps its traceback."""
    importlib.import_module("salesmachine_async.cli.app")
    monkeypatch.setitem(sys.modules, "salesmachine_async.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        main()
