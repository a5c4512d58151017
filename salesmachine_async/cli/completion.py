"""``salesmachine completion``: print click's completion script for a shell."""

import click
from click.shell_completion import get_completion_class

from salesmachine_async.cli.terminal import emit


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, /, shell: str) -> None:
    """
    Print a completion script for bash, zsh or fish.

    The script completes commands, options, and values that come from a fixed list.

    \b
      salesmachine completion bash > ~/.local/share/bash-completion/completions/salesmachine
      salesmachine completion zsh > ~/.zfunc/_salesmachine      # with ~/.zfunc in fpath
      salesmachine completion fish > ~/.config/fish/completions/salesmachine.fish

    To try it in this shell only: source <(salesmachine completion bash)
    """
    script = get_completion_class(shell)
    assert script is not None  # click has all three
    root = context.find_root().command
    emit(script(root, {}, "salesmachine", "_SALESMACHINE_COMPLETE").source().rstrip("\n"))
