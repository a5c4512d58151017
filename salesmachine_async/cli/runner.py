"""How a command runs a coroutine, and what it makes of the errors of the library."""

import contextlib
import logging
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from salesmachine_async.cli.exit_codes import INTERRUPTED, status_of
from salesmachine_async.cli.terminal import fail, note
from salesmachine_async.errors import DeliveryError, SalesmachineError

if TYPE_CHECKING:
    from salesmachine_async.cli.credentials import ApiKeys

T = TypeVar("T")

# Advice of the library for those who write Python, and what it is here.
_IN_PYTHON = (
    (", or its path is another (see Paths)", ""),
    ("(auth=)", "(--auth)"),
    (", or pass transport=HttpTransport(..., allow_http=True)", ""),
    ("pass params=", "use --param"),
)


def run(
    work: Coroutine[Any, Any, T], credentials: "ApiKeys", *, interrupted: str = "Interrupted.", hint: str = ""
) -> T:
    """
    Run *work* to its end.

    Args:
        work: What to do.
        credentials: The keys it uses; they are taken out of what a server says.
        interrupted: What Ctrl-C means at this command.
        hint: What the user may have meant, when the server says 404.

    Raises:
        typer.Exit: It failed, or was interrupted; the reason was said.
    """
    import asyncio  # noqa: PLC0415 - see the package docstring: --help stays quick

    try:
        with heard():
            return asyncio.run(work)
    except KeyboardInterrupt:
        note(interrupted)
        raise typer.Exit(INTERRUPTED) from None
    except SalesmachineError as error:
        give_up(error, credentials, hint=hint)


def give_up(error: SalesmachineError, credentials: "ApiKeys", *, doing: str = "", hint: str = "") -> NoReturn:
    """
    Say in one line what went wrong, and exit with the status that tells it.

    Raises:
        typer.Exit: always.
    """
    fail(f"{doing}{explained(error, credentials, hint=hint)}", code=status_of(error))


def explained(error: SalesmachineError, credentials: "ApiKeys", *, hint: str = "") -> str:
    """Say what went wrong, with the server's own words, which may quote the request, but not its keys."""
    text = str(error)
    for advice, ours in _IN_PYTHON:
        text = text.replace(advice, ours)
    if not isinstance(error, DeliveryError):
        return text
    if error.server_message:
        text += f'. The server says: "{credentials.hide(error.server_message)}"'
    return f"{text}. {hint}" if hint and error.status == 404 else text


@contextlib.contextmanager
def heard() -> Generator[None]:
    """Show the library's log on stderr: that it tries again, say. What it has given up each command tells itself."""
    logger, teller = logging.getLogger("salesmachine_async"), _Teller(logging.WARNING)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)


class _Teller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        trouble = getattr(record, "trouble", "")
        if not trouble or trouble.startswith("failing-"):
            note(f"{record.getMessage()} ...")
