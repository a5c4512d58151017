"""The first page of help: commands under headings, in the order in which they are needed."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from salesmachine_async.cli.usage_errors import plainly_told

SEND = "Send"
READ = "Read and manage"
LOCAL = "Try it locally"
IMPORT = "Import"
SET_UP = "Set up"

# Below the usage of every command; a contract, see `exits`.
EPILOG = """\
Keys come from the environment, from a file or from stdin, never from arguments, which others can see:

\b
  SALESMACHINE_API_TOKEN      the token of v1; also SALESMACHINE_API_SECRET
  SALESMACHINE_ACCESS_TOKEN   the token of v2, for reading and managing
  SALESMACHINE_API_URL        another server, such as a sandbox
  --credentials FILE          the same names, one per line; - is stdin

Exit status: 0 done, 1 failed, 2 used wrongly, 3 some rows refused (import), 4 refused by the server,
5 server not reached, 130 interrupted. Data goes to stdout, all else to stderr.
"""


class Plain(TyperCommand):
    """A command whose help shows arguments as they are typed: no braces, no types of Python."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name the options and arguments in the line of usage."""
        return ["[OPTIONS]", *(_piece(each) for each in self.get_params(ctx) if each.param_type_name == "argument")]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options."""
        params: list[Any] = list(self.get_params(ctx))
        arguments: list[tuple[str, str]] = [
            (each.metavar, each.help) for each in params if each.param_type_name == "argument"
        ]
        options: list[tuple[str, str] | None] = [
            each.get_help_record(ctx) for each in params if each.param_type_name == "option"
        ]
        for heading, rows in (("Arguments", arguments), ("Options", [row for row in options if row])):
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def _piece(argument: Any) -> str:
    dots = "..." * (argument.nargs != 1)
    return f"{argument.metavar}{dots}" if argument.required else f"[{argument.metavar}{dots}]"


class Sections(TyperGroup):
    """A group that shows its commands by their ``rich_help_panel``, which typer itself does only with rich."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read our own options."""
        with plainly_told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read those of a command, and run it."""
        with plainly_told():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (typer's)
        """Write the commands, section by section."""
        sections: dict[str, list[tuple[str, Any]]] = {SEND: [], READ: [], LOCAL: [], IMPORT: [], SET_UP: []}
        for name, each in self.commands.items():
            if not each.hidden:
                panel = getattr(each, "rich_help_panel", None)
                sections.setdefault(panel if isinstance(panel, str) else IMPORT, []).append((name, each))
        width = max(len(name) for name in self.commands)
        for heading, commands in sections.items():
            # Groups first: typer has them last.
            commands.sort(key=lambda each: not hasattr(each[1], "commands"))
            rows = [(f"{name:<{width}}", each.get_short_help_str(formatter.width - width)) for name, each in commands]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
