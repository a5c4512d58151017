"""Lists: one page, and iteration over all pages."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from salesmachine_async.access.objects import Record
from salesmachine_async.errors import InvalidMessage

__all__ = ["Listing", "Page", "query_of"]

T = TypeVar("T", bound=Record)

# The logger of the library, documented in `salesmachine_async._log`.
logger: Final = logging.getLogger("salesmachine_async")

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": ("trial", "paying", "churned", "not_converted"),
    "order": ("asc", "desc"),
    "sort": ("created_at",),
}
MAX_LIMIT: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """
    One page of a list.

    Attributes:
        items: The objects on the page.
        next: The URL of the next page, for ``page(next=…)``; None on the last page. Not in the repr, because a server
            may put the token into it.
        extra: The fields of the answer that have no attribute.
        raw: The whole answer.
    """

    items: tuple[T, ...]
    next: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False)
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False, compare=False)


class Listing(Generic[T]):
    """
    All items of a list, read page by page during the iteration.

    ::

        async for contact in api.contacts.list():
            ...
        async for page in api.contacts.list().pages():
            ...

    Every iteration starts at the first page. Objects added or deleted during the iteration may move items from one page
    to another.
    """

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Callable[[str | None], Awaitable[Page[T]]]) -> None:
        # Reads the page at a URL, or the first page for None.
        self._fetch = fetch

    async def __aiter__(self) -> AsyncIterator[T]:
        """Iterate over the items of all pages."""
        async for page in self.pages():
            for item in page.items:
                yield item

    async def pages(self) -> AsyncIterator[Page[T]]:
        """Iterate over the pages."""
        url: str | None = None
        seen: set[str] = set()
        while True:
            page = await self._fetch(url)
            yield page
            url = page.next
            if url is None:
                return
            if url in seen:
                # Without this check a server could keep the iteration going for ever.
                logger.warning(
                    "the pages of a list form a cycle: the iteration was ended after %d pages", len(seen) + 1
                )
                return
            seen.add(url)


def query_of(given: Mapping[str, Any], further: Mapping[str, Any] | None = None) -> dict[str, str]:
    """
    Check the documented parameters of a list and return its query.

    Args:
        given: The documented parameters by name; None is left out.
        further: Parameters that are not documented.

    Raises:
        InvalidMessage: A parameter has an invalid value.
    """
    for name, value in given.items():
        if value is not None:
            _check(name, value)
    return params_of({**given, **(further or {})})


def params_of(params: Mapping[str, Any] | None) -> dict[str, str]:
    """
    Return a query: None is left out, booleans become ``true`` and ``false``.

    Raises:
        InvalidMessage: A value is not a string, a number or a boolean.
    """
    query: dict[str, str] = {}
    for name, value in (params or {}).items():
        if isinstance(value, bool):
            query[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            query[name] = str(value)
        elif value is not None:
            raise InvalidMessage(f"params.{name}", f"must be a str, a number or a bool, not {type(value).__name__}")
    return query


def _check(name: str, value: object) -> None:
    choices = CHOICES.get(name)
    if choices is not None:
        if value not in choices:
            raise InvalidMessage(name, f"must be one of {', '.join(choices)}")
    elif name == "archived":
        if not isinstance(value, bool):
            raise InvalidMessage(name, f"must be a bool, not {type(value).__name__}")
    elif type(value) is not int or value < (name == "limit") or (name == "limit" and value > MAX_LIMIT):
        raise InvalidMessage(name, f"must be a whole number from {'1 to 100' if name == 'limit' else '0'}")
