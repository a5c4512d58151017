"""What can be completed: the commands, their options and arguments, read from the command line itself."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """
    An option.

    Attributes:
        names: How it is written, such as ``-y`` and ``--yes``.
        help: What it does, in a line.
        takes_value: Whether a value follows.
        choices: The values there are; empty when there is no list of them.
        is_file: Whether the value is the path of a file.
    """

    names: Sequence[str]
    help: str
    takes_value: bool
    choices: Sequence[str]
    is_file: bool


class Argument(NamedTuple):
    """A positional argument: with *choices*, the path of a file, or a command of the shell and what it takes."""

    choices: Sequence[str]
    is_file: bool
    is_command: bool


class Node(NamedTuple):
    """
    A command.

    Attributes:
        path: Its words, the program's name first.
        help: What it does, in a line.
        options: Its options.
        arguments: Its arguments.
        commands: The commands below it.
    """

    path: tuple[str, ...]
    help: str
    options: Sequence[Option]
    arguments: Sequence[Argument]
    commands: Sequence["Node"]

    def walk(self) -> Iterator["Node"]:
        """Yield it, and all below it."""
        yield self
        for each in self.commands:
            yield from each.walk()


def tree_of(command: Any, path: tuple[str, ...] = ("salesmachine",)) -> Node:
    """Read the tree of a typer command."""
    options: list[Option] = []
    arguments: list[Argument] = []
    for param in command.params:
        if getattr(param, "hidden", False):
            continue
        choices = [str(choice) for choice in param.type_descriptor.choices or ()]
        is_file = "FILE" in (param.metavar or "")
        if param.param_type_name == "argument":
            arguments.append(Argument(choices, is_file, param.metavar == "CMD"))
        else:
            help_text = " ".join((param.help or "").split())
            names = [*param.opts, *param.secondary_opts]
            options.append(Option(names, help_text, not param.is_flag, choices, is_file))
    options.append(Option(("-h", "--help"), "Show this message and exit.", False, (), False))
    below = getattr(command, "commands", {})
    nodes = [tree_of(each, (*path, name)) for name, each in below.items() if not each.hidden]
    return Node(path, command.get_short_help_str(200), options, arguments, nodes)
