"""The base classes of the resources: list, read, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from salesmachine_async.access.http_request import Answer
from salesmachine_async.access.listing import Listing, Page, query_of
from salesmachine_async.access.objects import Record
from salesmachine_async.access.service import Service
from salesmachine_async.access.values import as_list, as_mapping
from salesmachine_async.errors import ConnectionFailed, InvalidMessage

__all__ = ["Listed", "Resource", "Tracked"]

T = TypeVar("T", bound=Record)

Status = Literal["trial", "paying", "churned", "not_converted"]
Order = Literal["asc", "desc"]
Sort = Literal["created_at"]


class Resource(Generic[T]):
    """
    The objects of one kind.

    Args:
        service: Makes the requests.
        path: The path below the base URL.
        kind: The class of the objects.
    """

    def __init__(self, service: Service, path: str, kind: type[T]) -> None:
        self._service = service
        self._path = path
        self._kind = kind

    async def get(self, id: str) -> T:  # noqa: A002 (the name of the API)
        """
        Read an object by the API's own id, which is not your uid.

        Raises:
            Rejected: The object does not exist (`status` 404), or the server rejects the request.
            DeliveryError: The request failed.
        """
        return self._one(await self._service.call("GET", self._path_of(id)))

    def _list(self, given: Mapping[str, Any], params: Mapping[str, Any] | None) -> Listing[T]:
        query = query_of(given, params)

        async def fetch(url: str | None) -> Page[T]:
            return await self._page(query, url)

        return Listing(fetch)

    async def _page(self, query: Mapping[str, str], url: str | None) -> Page[T]:
        if url is not None:
            answer = await self._service.follow(url, self._path)
        else:
            answer = await self._service.call("GET", self._path, params=query)
        raw = as_mapping(answer.data)
        if not isinstance(raw.get("data"), list):
            raise self._unusable(answer, "a list")
        items = [self._kind.read(as_mapping(each)) for each in as_list(raw["data"])]
        following = as_mapping(raw.get("pagination")).get("next", raw.get("next"))
        return Page(
            items=tuple(item for item in items if item is not None),
            next=following if isinstance(following, str) and following else None,
            extra={name: value for name, value in raw.items() if name not in ("data", "object", "pagination", "next")},
            raw=raw,
        )

    def _one(self, answer: Answer) -> T:
        raw = as_mapping(answer.data)
        # The documentation shows the bare object; a list is always within `data`, so an object might be too.
        found = self._kind.read(raw) or self._kind.read(as_mapping(raw.get("data")))
        if found is None:
            raise self._unusable(answer, "an object with an id")
        return found

    def _path_of(self, id: object) -> str:  # noqa: A002
        if not isinstance(id, str) or not id or id in (".", "..") or not id.isprintable():
            raise InvalidMessage("id", "must be the id of an object, as the API shows it")
        return f"{self._path}/{quote(id, safe='')}"

    def _unusable(self, answer: Answer, wanted: str) -> ConnectionFailed:
        return ConnectionFailed(f"the answer was not {wanted}: check the base URL and Paths", status=answer.status)


class Tracked(Resource[T]):
    """Contacts or accounts, the objects that tracking calls create."""

    def list(
        self,
        *,
        status: Status | None = None,
        archived: bool | None = None,
        offset: int | None = None,
        limit: int | None = None,
        order: Order | None = None,
        sort: Sort | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Listing[T]:
        """
        List all objects, page by page.

        Args:
            status: Only objects in this part of the funnel.
            archived: True lists only archived objects; the effect of False is not documented.
            offset: The number of objects to skip.
            limit: The size of a page: 25 by default, at most 100. All pages are read.
            order: ``desc``, the default, or ``asc``.
            sort: The field to sort by; only ``created_at`` is documented.
            params: Further query parameters, sent unchanged.

        Raises:
            InvalidMessage: An argument has an invalid value. A `DeliveryError` is raised during the iteration.
        """
        given = {"status": status, "archived": archived, "offset": offset, "limit": limit, "order": order, "sort": sort}
        return self._list(given, params)

    async def page(
        self,
        *,
        next: str | None = None,  # noqa: A002 (the name of the API)
        status: Status | None = None,
        archived: bool | None = None,
        offset: int | None = None,
        limit: int | None = None,
        order: Order | None = None,
        sort: Sort | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Page[T]:
        """
        Read one page; the other arguments are those of `list`.

        Args:
            next: The `Page.next` of the previous page; the other arguments are then ignored.
            status: See `list`.
            archived: See `list`.
            offset: See `list`.
            limit: See `list`.
            order: See `list`.
            sort: See `list`.
            params: See `list`.

        Raises:
            DeliveryError: The request failed.
        """
        given = {"status": status, "archived": archived, "offset": offset, "limit": limit, "order": order, "sort": sort}
        return await self._page(query_of(given, params), next)

    async def delete(self, id: str) -> None:  # noqa: A002
        """
        Delete an object by the API's own id, which is not your uid.

        Raises:
            Rejected: The object does not exist (`status` 404), or the server rejects the request.
            DeliveryError: The request failed.
        """
        await self._service.call("DELETE", self._path_of(id), gone_is_done=True)


class Listed(Resource[T]):
    """Objects whose lists are assumed to take the parameters that are documented for all lists."""

    def list(
        self,
        *,
        offset: int | None = None,
        limit: int | None = None,
        order: Order | None = None,
        sort: Sort | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Listing[T]:
        """
        List all objects, page by page.

        Args:
            offset: The number of objects to skip.
            limit: The size of a page. All pages are read.
            order: ``desc`` or ``asc``.
            sort: The field to sort by: ``created_at``.
            params: Further query parameters, sent unchanged.

        Raises:
            InvalidMessage: An argument has an invalid value. A `DeliveryError` is raised during the iteration.
        """
        return self._list({"offset": offset, "limit": limit, "order": order, "sort": sort}, params)

    async def page(
        self,
        *,
        next: str | None = None,  # noqa: A002
        offset: int | None = None,
        limit: int | None = None,
        order: Order | None = None,
        sort: Sort | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Page[T]:
        """
        Read one page; the other arguments are those of `list`.

        Args:
            next: The `Page.next` of the previous page; the other arguments are then ignored.
            offset: See `list`.
            limit: See `list`.
            order: See `list`.
            sort: See `list`.
            params: See `list`.

        Raises:
            DeliveryError: The request failed.
        """
        given = {"offset": offset, "limit": limit, "order": order, "sort": sort}
        return await self._page(query_of(given, params), next)
