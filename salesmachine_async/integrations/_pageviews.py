"""Automatic pageviews: which requests are one, and what is sent about them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final

from salesmachine_async.errors import ConfigError

__all__ = ["METHODS", "Pageviews"]

# OPTIONS and HEAD are left out, because their answers are not shown.
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Longer user agents are cut: those of browsers have 100 to 250 characters.
MAX_AGENT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Pageviews:
    """
    The rules.

    Attributes:
        enabled: Whether there are automatic pageviews at all.
        methods: The HTTP methods that count.
        client_ip: Whether the client's address is sent.
        user_agent: Whether the client's User-Agent is sent.
        excluded: Matches routes and paths that do not count; None: all do.
    """

    enabled: bool
    methods: frozenset[str]
    client_ip: bool
    user_agent: bool
    excluded: re.Pattern[str] | None

    @classmethod
    def of(
        cls,
        *,
        enabled: bool,
        exclude: Collection[str],
        methods: Collection[str],
        client_ip: bool,
        user_agent: bool,
    ) -> Pageviews:
        """
        Make the rules of an integration's arguments.

        Raises:
            ConfigError: A single text was given where several are meant.
        """
        for name, value in (("exclude", exclude), ("methods", methods)):
            if isinstance(value, str):
                raise ConfigError(f"{name} must be several texts, such as ({value!r},)")
        return cls(
            enabled=bool(enabled),
            methods=frozenset(method.upper() for method in methods),
            client_ip=bool(client_ip),
            user_agent=bool(user_agent),
            excluded=re.compile("|".join(map(translate, exclude))) if exclude else None,
        )

    def wanted(self, method: object) -> bool:
        """Whether a request with *method* may become a pageview."""
        return self.enabled and isinstance(method, str) and method in self.methods

    def excludes(self, route: str, path: str) -> bool:
        """Whether one of the patterns fits the route's template or the path."""
        return self.excluded is not None and bool(self.excluded.match(route) or self.excluded.match(path))

    def params(
        self,
        *,
        route: str,
        method: str,
        status: int | None,
        seconds: float,
        aborted: bool,
        client_ip: str | None,
        user_agent: str | None,
    ) -> dict[str, Any]:
        """
        Describe a request that is over.

        Args:
            route: The route's template, never the path itself: that may hold personal data.
            method: The HTTP method.
            status: The status answered; None: none was, because the client went away.
            seconds: From the request's arrival to the last piece of the answer.
            aborted: Whether the answer was cut short.
            client_ip: Sent if the rules say so.
            user_agent: Sent if the rules say so.
        """
        params: dict[str, Any] = {"visit_url": route, "method": method, "duration": round(seconds, 6)}
        if status is not None:
            params["status"] = status
        if aborted:
            params["aborted"] = True
        if self.client_ip and client_ip:
            params["visit_ip"] = client_ip
        if self.user_agent and user_agent:
            params["visit_agent"] = user_agent[:MAX_AGENT]
        return params
