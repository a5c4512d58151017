"""``salesmachine completion``: print a script for a shell."""

from typing import Annotated, Literal, get_args

import typer

from salesmachine_async.cli.terminal import emit

Shell = Literal["bash", "zsh", "fish"]


def command(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help=f"{', '.join(get_args(Shell))}.")],
) -> None:
    """
    Print a script that completes commands and options.

    Their values too, where there is a fixed list. The script is complete in itself:
    nothing is started when Tab is pressed. Print it again after an update.

    \b
      salesmachine completion bash > ~/.local/share/bash-completion/completions/salesmachine
      salesmachine completion zsh > ~/.zfunc/_salesmachine      # with ~/.zfunc in fpath
      salesmachine completion fish > ~/.config/fish/completions/salesmachine.fish

    To try it in this shell only: source <(salesmachine completion bash)
    """
    from salesmachine_async.cli.completion import bash, fish, zsh  # noqa: PLC0415
    from salesmachine_async.cli.completion.tree import tree_of  # noqa: PLC0415

    tree = tree_of(context.find_root().command)
    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
    emit(scripts[shell](tree).rstrip("\n"))
