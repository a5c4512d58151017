"""The help page of ``salesmachine``: commands under headings, keys and exit statuses below them."""

from typing import Any

import click

from salesmachine_async.cli.usage_errors import reported

SECTIONS = {
    "Send": ("ping", "contact", "account", "track", "pageview", "alias", "import"),
    "Read and manage": ("list", "get", "delete", "request"),
    "Operate": ("spool", "relay"),
    "Try it locally": ("sandbox", "tail", "plan", "demo"),
}

EPILOG = """\
Keys come from the environment, from a file or from stdin, never from arguments, which others can see:

\b
  SALESMACHINE_API_TOKEN      the token of v1
  SALESMACHINE_API_SECRET     its secret
  SALESMACHINE_ACCESS_TOKEN   the token of v2, for reading and managing
  SALESMACHINE_API_URL        another server, such as a sandbox
  SALESMACHINE_SPOOL          the directory that keeps what is queued
  SALESMACHINE_ENGINE         the Redis or Valkey of the relays
  --credentials FILE          the same names, one per line; - is stdin

Exit status: 0 done, 1 failed, 2 usage error, 3 some rows rejected (import), 4 rejected by the server,
5 server not reached, 130 interrupted. Data goes to stdout, everything else to stderr.
"""


class SectionedGroup(click.Group):
    """A group that lists its commands by `SECTIONS`, those of no section under "Set up"."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the options before the command."""
        with reported():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the options of the command and run it."""
        with reported():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        listed = {name for names in SECTIONS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        width = max(map(len, self.commands))
        for heading, names in {**SECTIONS, "Set up": others}.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (f"{name:<{width}}", self.commands[name].get_short_help_str(formatter.width - width))
                        for name in names
                        if name in self.commands
                    ]
                )
