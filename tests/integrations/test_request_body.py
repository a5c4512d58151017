"""A WSGI request's body: a read that ends before the announced length means that the visitor has left."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from salesmachine_async.integrations._request_body import RequestBody, content_length

DATA = b"one\ntwo\nthree"
READS: dict[str, Callable[[Any], Any]] = {
    "read()": lambda body: body.read(),
    "read(-1)": lambda body: body.read(-1),
    "read(None)": lambda body: body.read(None),
    "read(length)": lambda body: body.read(100),
    "pieces": lambda body: list(iter(lambda: body.read(4), b"")),
    "readinto": lambda body: body.readinto(bytearray(100)),
    "readline": lambda body: list(iter(body.readline, b"")),
    "short lines": lambda body: list(iter(lambda: body.readline(2), b"")),
    "readlines": lambda body: body.readlines(),
    "readlines(hint)": lambda body: list(iter(lambda: body.readlines(3), [])),
    "iteration": list,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_body_that_ends_too_early(read: Callable[[Any], Any]) -> None:
    """Every way of reading meets the end of what arrived."""
    body = RequestBody(BytesIO(DATA), len(DATA) + 1)
    assert read(body) == read(BytesIO(DATA))
    assert body.is_broken_off


@pytest.mark.parametrize("length", [len(DATA), 0, None])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_whole_body(read: Callable[[Any], Any], length: int | None) -> None:
    """No way of reading takes its end, or one that was not announced, for a visitor who left."""
    body = RequestBody(BytesIO(DATA), length)
    assert read(body) == read(BytesIO(DATA))
    assert not body.is_broken_off


@pytest.mark.parametrize(
    "read", [lambda body: body.read(3), lambda body: body.readline(), lambda body: body.readlines(3)]
)
def test_a_body_that_is_not_read_to_its_end(read: Callable[[Any], Any]) -> None:
    """An application need not read all."""
    body = RequestBody(BytesIO(DATA), len(DATA))
    read(body)
    assert not body.is_broken_off


def test_data_behind_a_short_read() -> None:
    """A server that returns what has arrived so far has met no end."""

    class Slow(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 3))

    body = RequestBody(Slow(DATA), len(DATA))
    while body.read(100):
        pass
    assert not body.is_broken_off


def test_a_read_that_fails() -> None:
    """The error passes, and a later read changes nothing."""

    class Broken:
        fails = True

        def read(self) -> bytes:
            if self.fails:
                raise ConnectionResetError
            return b""

    source = Broken()
    body = RequestBody(source, None)
    with pytest.raises(ConnectionResetError):
        body.read()
    source.fails = False
    assert body.read() == b""
    assert body.is_broken_off


def test_the_rest_is_the_bodys_own() -> None:
    """Frameworks look at what a body has."""

    class Plain:
        closed = False

        def read(self) -> bytes:
            return b""

    body = RequestBody(Plain(), 0)
    assert not body.closed
    assert not hasattr(body, "readinto")
    assert not hasattr(body, "seek")


@pytest.mark.parametrize(("value", "length"), [("12", 12), ("", None), (None, None), ("a", None)])
def test_the_announced_length(value: str | None, length: int | None) -> None:
    """A request in chunks announces none."""
    assert content_length({} if value is None else {"CONTENT_LENGTH": value}) == length
