"""Log records of the agent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator

from salesmachine_async.errors import DeliveryError

# The agent's own logger; `RateLimitedLogger` gives each record its kind as `trouble`.
_LOGGER = "salesmachine_async"


@contextlib.contextmanager
def hear_troubles(
    parked: Callable[[], None], failed: Callable[[DeliveryError], None], say: Callable[[str], None]
) -> Generator[None]:
    """
    Listen to the agent until the block ends.

    Args:
        parked: Called when the server refuses for a reason that no row is to blame for.
        failed: Told of errors of requests that are tried again; of each kind one a minute.
        say: Told of all else that a person should know. Losses are not: their rows are rejected, or not answered.
    """

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kind = str(getattr(record, "trouble", ""))
            if kind == "parked":
                parked()
            elif kind.startswith("failing"):
                for argument in record.args or ():
                    if isinstance(argument, DeliveryError):
                        failed(argument)
            elif not kind.startswith("lost"):
                say(record.getMessage())

    logger, listener = logging.getLogger(_LOGGER), Listener(logging.WARNING)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
