"""The head of an answer, however it is written and cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.head import MAX_HEAD_BYTES, Head, HeadReader

OK = b"HTTP/1.1 200 OK\r\n\r\n"


def fed(*pieces: bytes) -> HeadReader:
    """Feed the pieces of an answer until its head has ended."""
    reader = HeadReader()
    for piece in pieces:
        if reader.feed(piece) is not None:
            assert reader.whole
            break
        assert not reader.whole
        if reader.failed:
            break
    return reader


def bytewise(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 401 \r\n", 401),
        (b"HTTP/1.1 503\r\n", 503),
        (b"HTTP/1.1 503\n", 503),
        (b"HTTP/0.9 200 OK\r\n", 200),
        (b"HTTP/2.0 200 OK\r\n", 200),
        (b"HTTP/1.7 999 Odd\r\n", 999),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101),
        (b"HTTP/1.1 200 \x00\xff\x7f\r\n", 200),
        (b"\r\n\nHTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.1 2000 OK\r\n", None),
        (b"HTTP/1.1 20 OK\r\n", None),
        (b"HTTP/1.1 099 OK\r\n", None),
        (b"HTTP/1.1 2x0 OK\r\n", None),
        (b"HTTP/1.1 +20 OK\r\n", None),
        (b"HTTP/1.1 200\tOK\r\n", None),
        (b"HTTP/7.7 200 OK\r\n", None),
        (b"HTTP/1.1200 OK\r\n", None),
        (b"HTTPS/1.1 200 OK\r\n", None),
        (b"http/1.1 200 OK\r\n", None),
        (b"ICY 200 OK\r\n", None),
        (b"200 OK\r\n", None),
        (b"POST /v1/batch HTTP/1.1\r\n", None),
    ],
)
def test_status_line(line: bytes, status: int | None) -> None:
    """A valid status line is read, and an invalid one fails, in one piece or byte by byte."""
    for pieces in ([line + b"\r\n"], bytewise(line + b"\r\n")):
        reader = fed(*pieces)
        head = reader.read()
        assert (head.status if head else None) == status
        assert reader.failed is (status is None)


@pytest.mark.parametrize("stray", [b"SSH-2.0-OpenSSH_9.9\r\n", bytes(100), b"\x15\x03", b"HTTP/1.1 abc Odd\r\n", b"<"])
def test_what_is_not_http_is_not_waited_for(stray: bytes) -> None:
    """The parser fails as soon as the bytes cannot become a status line."""
    reader = HeadReader()
    assert reader.feed(stray) is None
    assert reader.failed
    assert reader.read() is None


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP/", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 200"])
def test_unfinished_status_line_decides_nothing(data: bytes) -> None:
    """The status is known once its three digits have ended."""
    reader = HeadReader()
    assert reader.feed(data) is None
    assert reader.read() is None


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (b"", {}),
        (b"Retry-After: 7\r\n", {"Retry-After": "7"}),
        (b"retry-AFTER:7\n", {"Retry-After": "7"}),
        (b"Retry-After : \t7 \r\n", {"Retry-After": "7"}),
        (b"Retry-After: 7\r\nRetry-After: 9\r\n", {"Retry-After": "7"}),
        (b"Location: /x?y:z\r\nX: y\r\nDate: now\r\n", {"Location": "/x?y:z", "Date": "now"}),
        (b"no colon\r\nRetry-After: 7\r\n", {"Retry-After": "7"}),
        (b"\x00\xff: \x01\r\nRetry-After: 7\r\n", {"Retry-After": "7"}),
        (b"X: " + b"x" * 70_000 + b"\r\nRetry-After: 7\r\n", {"Retry-After": "7"}),
        (b"Retry-After: \xe9\r\n", {"Retry-After": "\xe9"}),
        (b"X: a\r\n Retry-After: 7\r\n", {"Retry-After": "7"}),
        (b"X-Retry-After: 7\r\nRetry-After2: 7\r\n", {}),
        (b"X: Retry-After: 7\r\n", {}),
    ],
)
def test_headers(sent: bytes, headers: dict[str, str]) -> None:
    """The headers that matter are found among all others, in any spelling; the first of each counts."""
    assert fed(b"HTTP/1.1 503 No\r\n" + sent + b"\r\n").read() == Head(503, headers)


def test_line_that_has_not_ended_is_not_read() -> None:
    """A partial ``Retry-After: 120`` is not read as 12."""
    reader = HeadReader()
    assert reader.feed(b"HTTP/1.1 503 No\r\nDate: d\r\nRetry-After: 12") is None
    assert reader.read() == Head(503, {"Date": "d"})
    assert reader.feed(b"0\r\n") is None
    assert reader.read() == Head(503, {"Date": "d", "Retry-After": "120"})


@pytest.mark.parametrize("divides", [True, False])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"])
def test_head_and_what_follows_are_separated(end: bytes, divides: bool) -> None:
    """The head ends at its blank line, with any line ends, and all bytes after it are kept."""
    head = b"HTTP/1.1 200 OK\r\nX: y" + end
    for pieces in ([head + b"body"], [*bytewise(head)[:-1], head[-1:] + b"body"]):
        reader = HeadReader(divides=divides)
        whole = len(pieces) == 1 and not divides
        assert [reader.feed(piece) for piece in pieces][-1] == ((head + b"body", b"") if whole else (head, b"body"))
        assert reader.whole
        assert reader._raw == head


def test_a_head_is_divided_from_its_body_by_default() -> None:
    """Also in the one piece in which most answers arrive."""
    assert HeadReader().feed(OK + b"body") == (OK, b"body")


@pytest.mark.parametrize("count", [1, 2, 1000])
@pytest.mark.parametrize("interim", [100, 102, 103, 199])
def test_interim_answers_are_skipped(count: int, interim: int) -> None:
    """Interim answers are skipped whatever they contain: malformed headers, a Retry-After, a huge reason."""
    one = b"HTTP/1.1 %d Wait\r\nno colon\r\nRetry-After: 3600\r\nX: \x00\r\n\r\n" % interim
    answer = one * count + b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\n"
    step = 1 if count < 1000 else 1021
    for pieces in ([answer], [answer[at : at + step] for at in range(0, len(answer), step)]):
        assert fed(*pieces).read() == Head(503, {"Retry-After": "7"})


def test_interim_answer_alone_decides_nothing() -> None:
    """A complete or partial interim answer has no status."""
    assert fed(b"HTTP/1.1 100 Continue\r\n\r\n").read() is None
    assert fed(b"HTTP/1.1 100 Continue\r\nRetry-After: 1\r\n").read() is None


def test_endless_interim_answer_takes_no_memory() -> None:
    """The end of a very long interim answer is found without keeping it."""
    reader = fed(b"HTTP/1.1 103 Early\n\rX: ", *[b"\nX: " + b"x" * 5000] * 1000, b"\n", b"\r")
    assert len(reader._raw) < 2 * MAX_HEAD_BYTES
    assert not reader.failed
    assert reader.feed(b"\n" + OK) == (OK, b"")


def test_head_without_an_end_is_failed() -> None:
    """A head without an end is decided by the bytes that arrived."""
    reader = HeadReader()
    assert reader.feed(b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n") is None
    while not reader.failed:
        assert reader.feed(b"X: " + b"x" * 997) is None
    assert MAX_HEAD_BYTES < len(reader._raw) < MAX_HEAD_BYTES + 2000
    assert reader.read() == Head(503, {"Retry-After": "7"})


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"\r\n", b"\n", b"HTTP/1.1 ", b"200 OK", b"100", b"103 Early", b"101 ", b"503 No", b"Retry-After: 7", b" "]
        ),
    ),
    max_size=20,
)


@given(PIECES, st.lists(st.integers(0, 400), max_size=20))
def test_pieces_make_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    """Any bytes, cut anywhere, give the same head and the same rest, without an exception."""
    data = b"".join(parts)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges) if start < end]

    def outcome_of(pieces: list[bytes]) -> tuple[bool, bool, Head | None, bytes]:
        reader, answer = HeadReader(divides=False), b""
        for piece in pieces:
            if reader.whole:
                answer += piece
            elif (ended := reader.feed(piece)) is not None:
                answer = b"".join(ended)
        return reader.whole, reader.failed, reader.read(), answer

    assert outcome_of(pieces) == outcome_of([data] if data else [])


@given(st.sampled_from([200, 201, 400, 401, 413, 429, 503]), st.binary(max_size=200))
def test_a_status_line_decides_whatever_follows(status: int, junk: bytes) -> None:
    """After the end of the status line no byte changes the status."""
    reader = fed(b"HTTP/1.1 %d Something\r\n" % status, junk)
    head = reader.read()
    assert head is not None
    assert head.status == status
