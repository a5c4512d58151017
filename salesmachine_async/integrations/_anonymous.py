"""
Visitors before their login: an id from a cookie or a callable, and the alias that joins it to the contact.

A cookie exists only while its visitor is anonymous: the answer to the request that identifies the contact removes it.
So the browser remembers that the alias was sent. Until that answer has arrived, or where an answer had begun before the
contact was known, the ids that were joined last are remembered here.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any, Final, final

from salesmachine_async._log import describe_exception
from salesmachine_async.errors import ConfigError
from salesmachine_async.integrations._agent_lifespan import guard_log
from salesmachine_async.integrations._callables import Uid, uid_from
from salesmachine_async.policy import check_whole
from salesmachine_async.tracker import Calls

__all__ = ["AnonymousCookie", "AnonymousId", "AnonymousVisitors", "Visitor"]

DAY: Final = 24 * 60 * 60
# The longest that browsers keep a cookie (RFC 6265bis, 5.6.2).
MAX_AGE: Final = 400 * DAY
# The prefix keeps a forged cookie from naming a contact of the application; its 128 random bits cannot be guessed.
PREFIX: Final = "anonymous-"
_FORM: Final = re.compile(PREFIX + "[0-9a-f]{32}")
# RFC 6265: a token; a path without a separator; a host name.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH: Final = re.compile(r"/[\x21-\x3a\x3c-\x7e]*")
_DOMAIN: Final = re.compile(r"\.?[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*")
# Number of joined ids that are remembered, at about 200 bytes each.
REMEMBERED: Final = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AnonymousCookie:
    """
    A first-party cookie with a random uid for each visitor who has not logged in: HttpOnly and SameSite=Lax.

    It is set with the first answer for which something is tracked, and removed when the contact is identified.

    Attributes:
        name: The name of the cookie.
        max_age: Seconds that a browser keeps it, at most 400 days.
        path: The path below which it is sent.
        domain: A domain whose hosts all get it; None: only the host that set it.
        secure: Whether it is sent over https only; None: if the request came by https.
        consent: Called for a request like ``contact``; where it returns a false value the visitor gets neither a cookie
            nor an id. None: all visitors get one.
    """

    name: str = "salesmachine_visitor"
    max_age: int = 365 * DAY
    path: str = "/"
    domain: str | None = None
    secure: bool | None = None
    consent: Callable[[Any], object] | None = None

    def __post_init__(self) -> None:
        check_whole("AnonymousCookie.max_age", self.max_age, at_least=1, at_most=MAX_AGE)
        for name, pattern in (("name", _NAME), ("path", _PATH), ("domain", _DOMAIN)):
            value = getattr(self, name)
            if not (value is None and name == "domain") and not (isinstance(value, str) and pattern.fullmatch(value)):
                raise ConfigError(f"AnonymousCookie.{name} is not usable in a cookie: {value!r}")

    def header(self, value: str, max_age: int, *, https: bool) -> str:
        """Return the ``Set-Cookie`` header with a value and a lifetime."""
        parts = [f"{self.name}={value}", f"Path={self.path}", f"Max-Age={max_age}", "HttpOnly", "SameSite=Lax"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if https if self.secure is None else self.secure:
            parts.append("Secure")
        return "; ".join(parts)

    def read(self, cookies: str) -> str | None:
        """Return the uid in a ``Cookie`` header; None if there is none of the form that this class makes."""
        for pair in cookies.split(";"):
            name, _, value = pair.partition("=")
            if name.strip() == self.name and _FORM.fullmatch(value := value.strip()):
                return value
        return None


AnonymousId = AnonymousCookie | Callable[[Any], Uid]


@final
class AnonymousVisitors:
    """
    The visitors of one application who have not logged in.

    Args:
        source: The cookie that carries their ids, or a callable that returns the id of a request.

    Raises:
        ConfigError: *source* is neither.
    """

    __slots__ = ("_joined", "_last", "cookie", "function")

    def __init__(self, source: AnonymousId) -> None:
        if isinstance(source, type) or not (isinstance(source, AnonymousCookie) or callable(source)):
            raise ConfigError(f"anonymous_id must be an AnonymousCookie(...) or a callable, not {source!r}")
        self.cookie = source if isinstance(source, AnonymousCookie) else None
        self.function = None if isinstance(source, AnonymousCookie) else source
        # The ids that were joined to a contact, and their order. Without a lock, which a fork could leave locked.
        self._joined: dict[str, object] = {}
        self._last: deque[str] = deque()

    @classmethod
    def of(cls, anonymous_id: AnonymousId | AnonymousVisitors | None) -> AnonymousVisitors | None:
        """Return the visitors for an integration's argument; None if it has none."""
        if anonymous_id is None or isinstance(anonymous_id, AnonymousVisitors):
            return anonymous_id
        return cls(anonymous_id)

    def visitor(self, request: object, cookies: str, *, https: bool) -> Visitor:
        """
        Return the visitor of a request.

        Args:
            request: The argument of the callables.
            cookies: The ``Cookie`` header; of several, joined by semicolons.
            https: Whether the request came by https.
        """
        return Visitor(self, request, cookies, https=https)

    def join(self, agent: Calls, contact_uid: str | int, anonymous_id: str | int) -> bool:
        """
        Send the alias of an id, once. Never raises.

        Returns:
            Whether it was accepted, now or before.
        """
        key, mark = "", object()
        try:
            key = str(anonymous_id)
            if key == str(contact_uid) or self._joined.setdefault(key, mark) is not mark:
                return True
            # A repetition by another process has the same id, by which a server can recognise it.
            accepted = agent.alias(contact_uid, anonymous_id, message_id=f"alias-{key}")
        except Exception as exc:  # noqa: BLE001 (identifying a contact never failed for this)
            guard_log("alias", logging.ERROR, "the alias of a visitor failed: %s", describe_exception(exc), loud=True)
            accepted = False
        if not accepted:
            self._joined.pop(key, None)  # the next request tries again
            return False
        self._last.append(key)
        if len(self._last) > REMEMBERED:
            self._joined.pop(self._last.popleft(), None)
        return True


class Visitor:
    """The visitor of one request, who may be anonymous; see `AnonymousVisitors.visitor`."""

    __slots__ = (
        "_answered",
        "_carried",
        "_consents",
        "_fresh",
        "_given",
        "_https",
        "_id",
        "_is_known",
        "_over",
        "_request",
        "_used",
        "_visitors",
    )

    def __init__(self, visitors: AnonymousVisitors, request: object, cookies: str, *, https: bool) -> None:
        self._visitors = visitors
        self._request = request
        self._https = https
        self._carried = None if visitors.cookie is None else visitors.cookie.read(cookies)
        # Made now, so that threads of the request agree on it.
        self._fresh = PREFIX + token_hex(16)
        self._used = False
        self._answered = False
        self._given = False
        # Whether there is a contact; and whether the id is used up, because it was joined to one or forgotten.
        self._is_known = False
        self._over = False
        self._consents: bool | None = None
        # The result of the callable.
        self._id: Uid = None

    def anonymous_id(self) -> Uid:
        """Return the uid for what is tracked now; None if the visitor has none."""
        if self._over:
            return None
        known = self._known_id()
        if known is not None or self._visitors.cookie is None or not self._may_have_cookie():
            return known
        if self._answered and not (self._given or self._used):
            return None  # the browser would not remember it
        self._used = True
        return self._fresh

    def identified(self, agent: Calls, contact_uid: Uid) -> None:
        """Send the alias of the anonymous id, if there is one; None: forget the visitor. Never raises."""
        self._is_known = contact_uid is not None
        if contact_uid is None:
            self._over = True
            return
        alias = self._known_id()
        if alias is None and (self._used or self._given):
            alias = self._fresh
        if alias is not None:
            self._over = self._visitors.join(agent, contact_uid, alias)

    def answer(self, *, is_page: bool, is_shared: bool) -> str | None:
        """
        Return the ``Set-Cookie`` header of the answer that begins now; None if it needs none.

        Args:
            is_page: Whether a pageview of the visitor will follow.
            is_shared: Whether a cache may give the answer to other visitors, who must not get the same id.
        """
        cookie = self._visitors.cookie
        if self._answered or cookie is None:
            return None
        self._answered = True
        if is_shared:
            return None
        if self._carried:
            is_over = self._over or not self._may_have_cookie()
            return cookie.header("", 0, https=self._https) if is_over else None
        if self._over or not (self._used or (is_page and not self._is_known)) or not self._may_have_cookie():
            return None
        self._given = True
        return cookie.header(self._fresh, cookie.max_age, https=self._https)

    def _known_id(self) -> Uid:
        """Return the id that the visitor had before this request."""
        function = self._visitors.function
        if function is None:
            return self._carried if self._carried and self._may_have_cookie() else None
        if self._id is None:
            self._id = uid_from("anonymous_id", partial(function, self._request))
        return self._id

    def _may_have_cookie(self) -> bool:
        cookie = self._visitors.cookie
        if self._consents is None and cookie is not None:
            try:
                self._consents = cookie.consent is None or bool(cookie.consent(self._request))
            except Exception as exc:  # noqa: BLE001 (the user's code)
                guard_log(
                    "consent", logging.ERROR, "the consent callable raised %s", describe_exception(exc), loud=True
                )
                self._consents = False
        return bool(self._consents)
