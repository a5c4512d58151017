"""The command tree: what exists and its help; the work is in one module per command."""

from typing import Annotated

import typer

from salesmachine_async._version import __version__
from salesmachine_async.cli import ping, plan
from salesmachine_async.cli.completion import command as completion
from salesmachine_async.cli.demo import command as demo
from salesmachine_async.cli.help import EPILOG, LOCAL, READ, SEND, SET_UP, Plain, Sections
from salesmachine_async.cli.importing import command as importing
from salesmachine_async.cli.read import delete, get, list_, request
from salesmachine_async.cli.sandbox import command as sandbox
from salesmachine_async.cli.sandbox import execution
from salesmachine_async.cli.send import account, alias, contact, pageview, track

app = typer.Typer(
    name="salesmachine",
    cls=Sections,
    help="Send to Salesmachine, read from it, or try it on this machine.",
    epilog=EPILOG,
    no_args_is_help=True,
    # Plain text: it also reads well in a log, a pipe and a screen reader, and starts in half the time.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback of ours is a bug report: keep Python's own, without local variables (they could hold a token).
    pretty_exceptions_enable=False,
    # `salesmachine completion` prints scripts that start no Python at each Tab.
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"salesmachine-async {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Send to Salesmachine, read from it, or try it on this machine."""


app.command("ping", cls=Plain, rich_help_panel=SEND)(ping.command)
app.command("contact", cls=Plain, rich_help_panel=SEND)(contact.command)
app.command("account", cls=Plain, rich_help_panel=SEND)(account.command)
app.command("track", cls=Plain, rich_help_panel=SEND)(track.command)
app.command("pageview", cls=Plain, rich_help_panel=SEND)(pageview.command)
app.command("alias", cls=Plain, rich_help_panel=SEND)(alias.command)
app.command("import", cls=Plain, rich_help_panel=SEND, epilog=importing.EPILOG)(importing.command)

app.command("list", cls=Plain, rich_help_panel=READ)(list_.command)
app.command("get", cls=Plain, rich_help_panel=READ)(get.command)
app.command("delete", cls=Plain, rich_help_panel=READ)(delete.command)
app.command("request", cls=Plain, rich_help_panel=READ)(request.command)

# A group that is a command itself: with options alone it runs a sandbox.
local = typer.Typer(rich_markup_mode=None, subcommand_metavar="[exec ...]")
local.callback(invoke_without_command=True)(sandbox.command)
# Behind the first word all options are the command's own.
local.command("exec", cls=Plain, context_settings={"allow_interspersed_args": False})(execution.command)
app.add_typer(local, name="sandbox", rich_help_panel=LOCAL)
plans = typer.Typer(rich_markup_mode=None, help=plan.HELP)
plans.command("infer", cls=Plain)(plan.infer)
app.add_typer(plans, name="plan", rich_help_panel=LOCAL)
app.command("demo", cls=Plain, rich_help_panel=LOCAL)(demo.command)

app.command("completion", cls=Plain, rich_help_panel=SET_UP)(completion.command)
