"""`salesmachine completion`: the scripts of click, and their answers."""

import shutil
import subprocess

import pytest

from tests.support.cli_process import environment, run


async def complete(*words: str) -> list[str]:
    """Return what the program offers for the last of *words*, as the script for bash calls it."""
    line = " ".join(["salesmachine", *words])
    ended = await run(
        _SALESMACHINE_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words)), prog="salesmachine"
    )
    assert (ended.status, ended.err) == (0, "")
    return [each.partition(",")[2] for each in ended.out.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_script(shell: str) -> None:
    """Each script is accepted by its shell, where that is installed, and calls the program."""
    ended = await run("completion", shell)
    assert (ended.status, ended.err) == (0, "")
    assert f"_SALESMACHINE_COMPLETE={shell}_complete" in ended.out
    if (path := shutil.which(shell)) is not None:
        checked = subprocess.run([path, "-n"], input=ended.out, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.slow
async def test_unknown_shell() -> None:
    """Another shell is a usage error."""
    assert (await run("completion", "csh")).status == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("com",), ["completion"]),
        (("list", "acc"), ["accounts"]),
        (("list", "contacts", "--st"), ["--status"]),
        (("list", "--status", "p"), ["paying"]),
        (("sandbox", "ex"), ["exec"]),
        (("sandbox", "exec", "--fa"), ["--faults"]),
        (("completion", "z"), ["zsh"]),
    ],
)
async def test_completion(words: tuple[str, ...], offered: list[str]) -> None:
    """Commands, options and values of fixed lists are completed."""
    assert await complete(*words) == offered


@pytest.mark.slow
def test_bash(tmp_path: str) -> None:
    """A real bash completes a word with the script."""
    bash = shutil.which("bash")
    assert bash is not None
    code = (
        'salesmachine() { python -m salesmachine_async "$@"; }\n'
        "source <(salesmachine completion bash)\nCOMP_WORDS=(salesmachine list acc); COMP_CWORD=2\n"
        '_salesmachine_completion salesmachine acc list; echo "${COMPREPLY[@]}"'
    )
    import sys
    from pathlib import Path

    bin_folder = Path(sys.executable).parent
    env = environment(PATH=f"{bin_folder}:/usr/bin:/bin")
    ended = subprocess.run([bash, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert (ended.returncode, ended.stdout) == (0, "accounts\n"), ended
