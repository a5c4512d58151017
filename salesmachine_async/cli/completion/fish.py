"""The script for fish: one ``complete`` for each thing."""

from collections.abc import Iterator

from salesmachine_async.cli.completion.tree import Node, Option

_HEAD = """\
# fish completion of salesmachine; made by `salesmachine completion fish`.
complete -c salesmachine -f
"""


def script(tree: Node) -> str:
    """Write the script."""
    return _HEAD + "".join(f"{line}\n" for node in tree.walk() for line in _lines(node))


def _lines(node: Node) -> Iterator[str]:
    start = f"complete -c salesmachine -n {_quoted(_condition(node))}"
    for each in node.commands:
        yield f"{start} -a {each.path[-1]} -d {_quoted(each.help)}"
    for option in node.options:
        yield f"{start}{_option(option)} -d {_quoted(option.help)}"
    for argument in node.arguments:
        if argument.choices:
            yield f"{start} -a {_quoted(' '.join(argument.choices))}"
        elif argument.is_command:
            yield f"{start} -x -a '(__fish_complete_subcommand --fcs-skip=3)'"


def _condition(node: Node) -> str:
    seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in node.path[1:])
    # Its own options are not those of the commands below it.
    none = " ".join(each.path[-1] for each in node.commands)
    below = f"not __fish_seen_subcommand_from {none}" if none else ""
    return "; and ".join(filter(None, (seen, below)))


def _option(option: Option) -> str:
    names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
    if not option.takes_value:
        return names
    if option.choices:
        return f"{names} -x -a {_quoted(' '.join(option.choices))}"
    return f"{names} -r -F" if option.is_file else f"{names} -x"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
