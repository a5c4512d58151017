"""The command as such: version, help, and the missing extra."""

import importlib
import subprocess
import sys

import pytest

from salesmachine_async import __version__
from salesmachine_async.cli import main
from tests.cli.process import environment, run


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
    assert "sandbox" in out
    assert "demo" in out
    assert "--token" not in out
    assert "\x1b" not in out


def test_no_command_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a command there is nothing to do: status 2."""
    assert run_main(monkeypatch) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["sandbox", "--help"], ["demo", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    """--help imports nothing that only running a command needs, beyond the package itself."""
    code = (
        "import sys\n"
        "import salesmachine_async\n"
        "before = set(sys.modules)\n"
        "from salesmachine_async.cli import main\n"
        f"sys.argv = ['salesmachine', *{arguments!r}]\n"
        "heavy = {'aiohttp', 'aiohttp.web', 'asyncio', 'orjson', 'salesmachine_async.sandbox', 'sqlite3'}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in set(sys.modules) - before if name in heavy), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert ended.stderr == "[]\n"


@pytest.mark.parametrize("missing", ["typer", "rich.console"])
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
