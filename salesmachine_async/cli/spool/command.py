"""The group ``salesmachine spool``."""

import click

from salesmachine_async.cli.spool import check, drain, export, ls, purge, show


@click.group("spool", no_args_is_help=True)
def command() -> None:
    """
    Look at what agents keep on disk; deliver, export or purge it.

    \b
      salesmachine spool ls /var/lib/shop/salesmachine
      export SALESMACHINE_SPOOL=/var/lib/shop/salesmachine
      salesmachine spool check
    """


for _command in (ls.command, check.command, show.command, drain.command, export.command, purge.command):
    command.add_command(_command)
