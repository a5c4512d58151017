"""The tree of commands."""

import click

from salesmachine_async._version import __version__
from salesmachine_async.cli import completion, ping, plan, send, tail
from salesmachine_async.cli.demo import command as demo
from salesmachine_async.cli.help import EPILOG, SectionedGroup
from salesmachine_async.cli.importing import command as importing
from salesmachine_async.cli.read import delete, get, list_, request
from salesmachine_async.cli.relay import command as relay
from salesmachine_async.cli.sandbox import command as sandbox
from salesmachine_async.cli.sandbox import execution
from salesmachine_async.cli.spool import command as spool


@click.group(cls=SectionedGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"salesmachine-async {__version__}", help="Print the version and exit.")
def app() -> None:
    """Send to Salesmachine, read from it, or try it on this machine."""


for _command in (
    *(ping.command, send.contact, send.account, send.track, send.pageview, send.alias, importing.command),
    *(list_.command, get.command, delete.command, request.command, spool.command, relay.command),
    *(sandbox.command, plan.command, tail.command, demo.command, completion.command),
):
    app.add_command(_command)
sandbox.command.add_command(execution.command)
