"""The command tree: what exists and its help; the work is in one module per command."""

from typing import Annotated

import typer

from salesmachine_async._version import __version__
from salesmachine_async.cli import sandbox
from salesmachine_async.cli.demo import command as demo

app = typer.Typer(
    name="salesmachine",
    help="Asynchronous, buffered event tracking for the Salesmachine API.",
    epilog="Credentials come from SALESMACHINE_API_TOKEN, SALESMACHINE_API_SECRET and SALESMACHINE_API_URL only, "
    "never from the command line.",
    no_args_is_help=True,
    # Plain text: it also reads well in a log, a pipe and a screen reader, and starts in half the time.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback of ours is a bug report: keep Python's own, without local variables (they could hold a token).
    pretty_exceptions_enable=False,
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
    """Asynchronous, buffered event tracking for the Salesmachine API."""


app.command("sandbox")(sandbox.command)
app.command("demo")(demo.command)
