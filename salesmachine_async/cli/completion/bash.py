"""The script for bash: from 3.2, with or without the package bash-completion."""

from collections.abc import Iterable

from salesmachine_async.cli.completion.tree import Node

# The words before the one to complete say which command it is of ($path), and how many arguments it has ($at).
_SCRIPT = """\
# bash completion of salesmachine; made by `salesmachine completion bash`.
_salesmachine() {{
    local IFS=$'\\n' cur prev word value= path=salesmachine at=0 index words=
    cur=${{COMP_WORDS[COMP_CWORD]}}
    prev=${{COMP_WORDS[COMP_CWORD-1]}}
    # --status=paying comes as three words.
    if [[ $cur == = ]]; then cur=
    elif [[ $prev == = ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        if [[ $word == = ]]; then continue; fi
        if [[ $value ]]; then value=; continue; fi
        case "$path $word" in
        {commands}) path="$path $word"; at=0; continue ;;
        {with_values}) value=1; continue ;;
        esac
        if [[ $word == -- ]]; then prev=; at=$((at + 100)); elif [[ $word != -* ]]; then at=$((at + 1)); fi
    done
    case "$path $prev" in
{values}
    {with_values}) return ;;
    esac
    if [[ $cur == -* && $at -lt 100 ]]; then
        case "$path" in
{options}
        esac
    else
        case "$path $((at % 100))" in
{arguments}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
_salesmachine_files() {{
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
}}
complete -F _salesmachine salesmachine
"""


def script(tree: Node) -> str:
    """Write the script."""
    values: list[str] = []
    options: list[str] = []
    arguments: list[str] = []
    for node in tree.walk():
        path = " ".join(node.path)
        names = [name for option in node.options for name in option.names]
        options.append(f"        \"{path}\") words=$'{_words(names)}' ;;")
        for option in node.options:
            patterns = _patterns(f"{path} {name}" for name in option.names)
            if option.choices:
                values.append(
                    f"    {patterns}) COMPREPLY=($(compgen -W $'{_words(option.choices)}' -- \"$cur\")); return ;;"
                )
            elif option.is_file:
                values.append(f"    {patterns}) _salesmachine_files; return ;;")
        if node.commands:
            arguments.append(f"        \"{path} 0\") words=$'{_words(each.path[-1] for each in node.commands)}' ;;")
        for index, argument in enumerate(node.arguments):
            if argument.is_command:
                arguments.append(f'        "{path} 0") COMPREPLY=($(compgen -c -- "$cur")); return ;;')
                arguments.append(f'        "{path} "*) _salesmachine_files; return ;;')
            elif argument.is_file:
                arguments.append(f'        "{path} {index}") _salesmachine_files; return ;;')
            elif argument.choices:
                arguments.append(f"        \"{path} {index}\") words=$'{_words(argument.choices)}' ;;")
    return _SCRIPT.format(
        commands=_patterns(" ".join(node.path) for node in tree.walk() if len(node.path) > 1),
        with_values=_patterns(
            f"{' '.join(node.path)} {name}"
            for node in tree.walk()
            for option in node.options
            if option.takes_value
            for name in option.names
        ),
        values="\n".join(values),
        options="\n".join(options),
        arguments="\n".join(arguments),
    )


def _patterns(texts: Iterable[str]) -> str:
    # Never nothing, which bash does not take: no word is empty here.
    return "|".join(f'"{text}"' for text in texts) or '""'


def _words(words: Iterable[str]) -> str:
    return "\\n".join(words)
