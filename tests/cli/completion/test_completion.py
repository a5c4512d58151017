"""`salesmachine completion`: the scripts, in real shells."""

import shutil
import subprocess
from functools import cache
from typing import Annotated

import pytest
import typer
from typer.main import get_command

from salesmachine_async.cli.app import app
from salesmachine_async.cli.completion import bash, fish, zsh
from salesmachine_async.cli.completion.tree import tree_of
from tests.support.cli_process import run

# The words before the one to complete, that one, and what must (or, with a "-", must not) be offered.
CASES = [
    ("salesmachine co", ["contact", "completion", "-sandbox"]),
    ("salesmachine ", ["ping", "track", "sandbox", "request"]),
    ("salesmachine list ", ["contacts", "users", "-contact"]),
    ("salesmachine list contacts ", ["-contacts"]),
    ("salesmachine list --order desc acc", ["accounts"]),
    ("salesmachine list contacts --st", ["--status", "-trial"]),
    ("salesmachine list --status p", ["paying"]),
    ("salesmachine get ", ["contact", "user"]),
    ("salesmachine contact list", ["-contacts"]),
    ("salesmachine sandbox ", ["exec"]),
    ("salesmachine sandbox --fa", ["--faults"]),
    ("salesmachine sandbox exec --fa", ["--faults"]),
    ("salesmachine sandbox --db pypro", ["pyproject.toml"]),
    ("salesmachine sandbox exec -- bas", ["bash"]),
    ("salesmachine sandbox exec -- cat pypro", ["pyproject.toml"]),
    ("salesmachine completion ", ["bash", "zsh", "fish"]),
]


@cache
def script(shell: str) -> str:
    write = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}[shell]
    return write(tree_of(get_command(app)))


def shell(name: str, code: str) -> list[list[str]]:
    """Run *code*; its output is one part for each case, a word a line."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}")
    ended = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    parts = ended.stdout.split("=====\n")
    return [[line.partition("\t")[0].strip() for line in part.splitlines()] for part in parts]


def check(offered: list[list[str]]) -> None:
    for (line, wanted), words in zip(CASES, offered[: len(CASES)], strict=True):
        for word in wanted:
            if word.startswith("-") and not word.startswith("--"):
                assert word[1:] not in words, line
            else:
                assert word in words, line


def test_bash() -> None:
    """In a real bash every command, option, value, file and command of the shell is completed."""
    tries = "\n".join(
        f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _salesmachine\n"
        'printf "%s\\n" "${COMPREPLY[@]}"; echo "====="'
        for words in (line.split(" ") for line, _ in CASES)
    )
    check(shell("bash", f"{script('bash')}\n{tries}\ncomplete -p salesmachine >/dev/null"))


def test_bash_with_an_equals_sign() -> None:
    """bash takes `--status=pay` apart."""
    tried = "COMP_WORDS=(salesmachine list --status = pay); COMP_CWORD=4; _salesmachine; echo $COMPREPLY"
    assert shell("bash", f"{script('bash')}\n{tried}") == [["paying"]]


def test_fish() -> None:
    """In a real fish."""
    tries = "\n".join(f"complete -C '{line}'; echo =====" for line, _ in CASES)
    check(shell("fish", f"{script('fish')}\n{tries}"))


def test_zsh() -> None:
    """A real zsh takes the script, and has a function for each command."""
    code = f"autoload -U compinit; compinit -D -u; source =(cat <<'EOF'\n{script('zsh')}\nEOF\n)\n"
    names = shell("zsh", f"{code}print -l ${{(k)functions}} | grep ^_salesmachine; print ${{_comps[salesmachine]}}")[0]
    assert {"_salesmachine", "_salesmachine_list", "_salesmachine_sandbox", "_salesmachine_sandbox_exec"} <= {*names}


def test_files() -> None:
    """An argument that is called FILE is completed as one."""
    files = typer.Typer(add_completion=False)
    files.callback()(lambda: None)
    files.command("read")(read_file)
    tree = tree_of(get_command(files))
    tried = "COMP_WORDS=(salesmachine read pypro); COMP_CWORD=2; _salesmachine; echo $COMPREPLY"
    assert shell("bash", f"{bash.script(tree)}\n{tried}") == [["pyproject.toml"]]
    assert shell("fish", f"{fish.script(tree)}\ncomplete -C 'salesmachine read pypro'") == [["pyproject.toml"]]
    assert "1:argument:_files" in zsh.script(tree)


def read_file(file: Annotated[str, typer.Argument(metavar="FILE")]) -> None:
    """Do nothing."""


@pytest.mark.slow
async def test_the_command() -> None:
    """It prints the script, and nothing else."""
    ended = await run("completion", "bash")
    assert ended == (0, script("bash"), "")
    assert (await run("completion", "csh")).status == 2
