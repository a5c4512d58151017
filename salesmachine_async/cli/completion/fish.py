"""The script for fish: one ``complete`` for each thing."""

from collections.abc import Iterator

from salesmachine_async.cli.completion.tree import Node, Option

_HEAD = """\
# fish completion of salesmachine; made by `salesmachine completion fish`.
function __salesmachine_is --description 'Whether the command typed so far is this one'
    set -l typed
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; or set -a typed $word
    end
    for word in $typed[2..]
        if contains -- "$typed[1] $word" COMMANDS
            test "$argv" = "$typed[1] $word"
            return
        end
    end
    test "$argv" = "$typed[1]"
end
complete -c salesmachine -f
"""


def script(tree: Node) -> str:
    """Write the script."""
    below = (_quoted(" ".join(node.path[1:])) for node in tree.walk() if len(node.path) > 2)
    head = _HEAD.replace("COMMANDS", " ".join(below))
    return head + "".join(f"{line}\n" for node in tree.walk() for line in _lines(node))


def _lines(node: Node) -> Iterator[str]:
    condition = f"__salesmachine_is {' '.join(node.path[1:])}"
    start = f"complete -c salesmachine -n {_quoted(condition)}"
    for each in node.commands:
        yield f"{start} -a {each.path[-1]} -d {_quoted(each.help)}"
    for option in node.options:
        yield f"{start}{_option(option)} -d {_quoted(option.help)}"
    for argument in node.arguments:
        if argument.choices:
            choices = " ".join(argument.choices)
            once = _quoted(f"{condition}; and not __fish_seen_subcommand_from {choices}")
            yield f"complete -c salesmachine -n {once} -a {_quoted(choices)}"
        elif argument.is_file:
            yield f"{start} -F"
        elif argument.is_command:
            yield f"{start} -x -a '(__fish_complete_subcommand --fcs-skip={len(node.path)})'"


def _option(option: Option) -> str:
    names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
    if not option.takes_value:
        return names
    if option.choices:
        return f"{names} -x -a {_quoted(' '.join(option.choices))}"
    return f"{names} -r -F" if option.is_file else f"{names} -x"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
