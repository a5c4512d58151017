"""Run a coroutine, and report the errors of the library."""

import contextlib
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeVar

import click

from salesmachine_async.cli.exit_codes import INTERRUPTED, status_of
from salesmachine_async.cli.terminal import fail, note
from salesmachine_async.errors import DeliveryError, SalesmachineError

T = TypeVar("T")

# Advice for Python code in the errors of the library, and its equivalent here.
_IN_PYTHON = (
    ("a longer lease or a shorter Timeouts.request", "a longer --lease or a shorter --request-timeout"),
    (", or its path differs (see Paths)", ""),
    ("(auth=)", "(--auth)"),
    ("or pass transport=HttpTransport(..., allow_http=True)", "or use --allow-http"),
    ("pass ssl_context", "use --cacert"),
    ("pass params=", "use --param"),
)


def run(
    work: Coroutine[Any, Any, T],
    *,
    interrupted: str = "Interrupted.",
    hint: str = "",
    log: Callable[[], contextlib.AbstractContextManager[None]] | None = None,
) -> T:
    """
    Run *work* to its end.

    Args:
        work: The coroutine.
        interrupted: The line printed after Ctrl-C.
        hint: Advice for an answer of 404.
        log: Prints what the library logs; default: `library_log`.

    Raises:
        click.exceptions.Exit: It failed or was interrupted; the reason has been printed.
    """
    import asyncio  # noqa: PLC0415 - see the package docstring: --help stays quick

    try:
        with (log or library_log)():
            return asyncio.run(work)
    except KeyboardInterrupt:
        note(interrupted)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except SalesmachineError as error:
        give_up(error, hint=hint)


def give_up(error: SalesmachineError, *, hint: str = "") -> NoReturn:
    """
    Print an error of the library in one line, and exit with its status.

    Raises:
        click.exceptions.Exit: Always.
    """
    fail(explained(error, hint=hint), code=status_of(error))


def explained(error: SalesmachineError, *, hint: str = "") -> str:
    """Describe an error, with the text of the server, from which the library has removed the keys."""
    text = str(error)
    for advice, equivalent in _IN_PYTHON:
        text = text.replace(advice, equivalent)
    if not isinstance(error, DeliveryError):
        return text
    if error.server_message:
        text += f'. Server message: "{error.server_message}"'
    return f"{text}. {hint}" if hint and error.status == 404 else text


@contextlib.contextmanager
def library_log() -> Generator[None]:
    """Print warnings of the library on stderr, such as a retry; lost messages are reported by the commands."""
    logger, handler = logging.getLogger("salesmachine_async"), _NoteHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _NoteHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        trouble = getattr(record, "trouble", "")
        if not trouble or trouble.startswith("failing-"):
            note(f"{record.getMessage()} ...")
