"""The script for zsh: a function for each command, by ``_arguments``."""

from salesmachine_async.cli.completion.tree import Argument, Node, Option

_HEAD = """\
#compdef salesmachine
# zsh completion of salesmachine; made by `salesmachine completion zsh`.
"""
_TAIL = """\
if [[ $funcstack[1] == _salesmachine ]]; then _salesmachine "$@"; else compdef _salesmachine salesmachine; fi
"""


def script(tree: Node) -> str:
    """Write the script."""
    return _HEAD + "\n".join(_function(node) for node in tree.walk()) + "\n" + _TAIL


def _function(node: Node) -> str:
    name = "_" + "_".join(node.path)
    specs = [spec for option in node.options for spec in _option(option)]
    if not node.commands:
        specs += [_argument(index, argument) for index, argument in enumerate(node.arguments, 1)]
        body = " \\\n        ".join(specs)
        return f"{name}() {{\n    _arguments -s -S : \\\n        {body}\n}}"
    body = " \\\n        ".join([*specs, "'1:command:->command'", "'*::argument:->arguments'"])
    commands = "\n".join(f"            {_quoted(f'{_plain(each.path[-1])}:{each.help}')}" for each in node.commands)
    cases = "\n".join(f"        ({each.path[-1]}) _{'_'.join(each.path)} ;;" for each in node.commands)
    return f"""\
{name}() {{
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C : \\
        {body}
    case $state in
    (command)
        local -a commands=(
{commands}
        )
        _describe -t commands command commands ;;
    (arguments)
        case $words[1] in
{cases}
        esac ;;
    esac
}}"""


def _option(option: Option) -> list[str]:
    told = _plain(option.help)
    value = ""
    if option.takes_value:
        what = f"({' '.join(option.choices)})" if option.choices else "_files" if option.is_file else " "
        value = f":value:{what}"
    return [
        _quoted(f"*{name}{'=' if value and name.startswith('--') else '+' if value else ''}[{told}]{value}")
        for name in option.names
    ]


def _argument(index: int, argument: Argument) -> str:
    if argument.is_command:
        return "'*::command:_normal'"
    what = f"({' '.join(argument.choices)})" if argument.choices else "_files" if argument.is_file else " "
    return _quoted(f"{index}:argument:{what}")


def _plain(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
