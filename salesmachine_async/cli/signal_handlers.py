"""Signal handlers that the running event loop calls."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator, Iterable


@contextlib.contextmanager
def signal_handlers(numbers: Iterable[int], handle: Callable[[int], object]) -> Generator[None]:
    """
    Call *handle* with the number of each of these signals that arrives, until the block is left.

    A handler of ``signal.signal`` alone is too late at times: Python runs it between two steps of the program, and a
    signal that arrives just before the loop waits for its files does not end that wait. ``loop.add_signal_handler``
    lets the signal write to a file that the loop waits for. Windows lacks it; there asyncio's own loop has such a file.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in numbers}

    def soon(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(handle, number)

    try:
        for number in before:
            try:
                loop.add_signal_handler(number, handle, number)
            except NotImplementedError:
                signal.signal(number, soon)
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            # None: it was not set from Python, and is not known there.
            if handler is not None:
                signal.signal(number, handler)
