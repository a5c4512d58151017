"""The tree of commands, as the help shows it."""

import click

from salesmachine_async.cli.app import app


def command_paths() -> list[list[str]]:
    """List the words of each command; those of the program itself are none."""
    return list(_walk(app, []))


def _walk(command: click.Command, path: list[str]) -> list[list[str]]:
    below = command.commands if isinstance(command, click.Group) else {}
    return [path, *(words for name, each in below.items() for words in _walk(each, [*path, name]))]
