"""Usage errors in the form of all other errors: usage, hint, then one line that begins with the command."""

import contextlib
import re
from collections.abc import Generator

import click

from salesmachine_async.cli.terminal import fail

_KEY = re.compile(r"token|secret|key|password|credential")
_NO_KEYS = (
    "Keys are never arguments, because other users of the machine can read those: "
    "set SALESMACHINE_API_TOKEN and the like, or use --credentials FILE"
)


@contextlib.contextmanager
def reported() -> Generator[None]:
    """
    Print usage errors of the block on stderr.

    Raises:
        click.exceptions.Exit: After an error was printed.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        message = error.format_message()
        if isinstance(error, click.NoSuchOption) and _KEY.search(error.option_name.lower()):
            # click's own text may suggest another option, which the value was not meant for.
            message = f"No such option: {error.option_name}. {_NO_KEYS}"
        if error.ctx is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
        fail(message, code=error.exit_code, command=error.ctx.command_path if error.ctx else "")
