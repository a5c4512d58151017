"""The tree of commands, as the help shows it."""

import click

from salesmachine_async.cli.app import app


def command_paths() -> list[list[str]]:
    """List the words of each command; those of the program itself are none."""
    return list(_walk(app, []))


def command_of(words: list[str]) -> click.Command:
    """Return the command of these words."""
    command: click.Command = app
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def help_of(words: list[str]) -> str:
    """Return the help of a command as a terminal of 80 columns shows it, which click's runner does not."""
    context: click.Context | None = None
    for depth in range(len(words) + 1):
        command = command_of(words[:depth])
        name = words[depth - 1] if depth else "salesmachine"
        context = click.Context(command, context, name, terminal_width=78, **command.context_settings)
    assert context is not None
    return context.get_help()


def _walk(command: click.Command, path: list[str]) -> list[list[str]]:
    below = command.commands if isinstance(command, click.Group) else {}
    return [path, *(words for name, each in below.items() for words in _walk(each, [*path, name]))]
