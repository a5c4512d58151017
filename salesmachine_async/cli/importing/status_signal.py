"""How an import is asked how it is getting on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator


@contextlib.contextmanager
def asked_for_status(answer: Callable[[], None]) -> Generator[None]:
    """Answer SIGUSR1, and where there is one SIGINFO (Ctrl-T), as dd does."""
    loop = asyncio.get_running_loop()
    numbers = [number for name in ("SIGUSR1", "SIGINFO") if (number := getattr(signal, name, None)) is not None]
    with contextlib.suppress(NotImplementedError):  # Windows
        for number in numbers:
            loop.add_signal_handler(number, answer)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in numbers:
                loop.remove_signal_handler(number)
