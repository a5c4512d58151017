"""The messages of a spool, one by one, as they wait or were rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from salesmachine_async._spool.survey import Found, Survey


class SpooledMessage(NamedTuple):
    """
    A message on disk.

    Attributes:
        directory: The name of its directory.
        line: The message as encoded for the wire.
        alias: Whether it is an alias, which names no method.
        partition: The partition; None for a rejected message.
        number: The number within the partition; None for a rejected message.
        at_ms: When it was written or rejected.
        status: The HTTP status that rejected it; None if it waits.
        error: The text of the server; None if it waits.
    """

    directory: str
    line: bytes
    alias: bool
    partition: int | None
    number: int | None
    at_ms: int
    status: int | None = None
    error: str | None = None

    @property
    def importable(self) -> bytes:
        """The message as ``salesmachine import`` takes it."""
        return b'{"method":"alias",' + self.line[1:] if self.alias else self.line


def waiting(survey: Survey, directories: Sequence[Found]) -> Iterator[SpooledMessage]:
    """Yield the messages that wait, directory by directory, in the order of each partition."""
    from salesmachine_async._spool.pieces import ALIAS  # noqa: PLC0415 - --help does not need it
    from salesmachine_async.cli.spool.reading import pieces  # noqa: PLC0415

    for found in directories:
        for piece in pieces(survey, found):
            for number, line in enumerate(bytes(piece.lines).split(b"\n"), piece.first):
                yield SpooledMessage(found.name, line, piece.kind == ALIAS, piece.partition, number, piece.written_ms)


def rejected(survey: Survey, directories: Sequence[Found]) -> Iterator[SpooledMessage]:
    """Yield the messages that the server rejected; a line that a crash cut off is left out."""
    import orjson  # noqa: PLC0415

    for found in directories:
        if found.problem:
            continue
        for line in survey.rejected(found):
            try:
                about: Any = orjson.loads(line)
                message = about["message"]
                alias = "method" not in message
                at = int(about["rejected_ms"])
            except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
                continue
            status, error = about.get("status"), about.get("error")
            yield SpooledMessage(
                found.name,
                orjson.dumps(message),
                alias,
                None,
                None,
                at,
                status if isinstance(status, int) else None,
                None if error is None else str(cast("object", error)),
            )
