"""The agents that an application has without making one: configured by the environment, or off where that cannot be."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from threading import Thread
from typing import Any, Final

from salesmachine_async._arguments import DEBUG_VARIABLE, ENABLED_VARIABLE, check_types, checked_params, flag
from salesmachine_async._core.response import Outcome
from salesmachine_async._delivery.null_transport import NullTransport
from salesmachine_async._http.config import (
    ALLOW_HTTP_VARIABLE,
    CA_FILE_VARIABLE,
    PROXY_VARIABLE,
    SECRET_VARIABLE,
    SPOOL_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
)
from salesmachine_async._log import log_or_stderr
from salesmachine_async.agent import Agent
from salesmachine_async.errors import ConfigError, ConnectionFailed
from salesmachine_async.policy import Invalid, Spool
from salesmachine_async.threaded import ThreadedAgent

__all__ = ["AgentOptions", "agent_of_the_environment", "fallback_agent", "nothing"]

# All that an agent reads when it is made.
VARIABLES: Final = (
    TOKEN_VARIABLE,
    SECRET_VARIABLE,
    URL_VARIABLE,
    SPOOL_VARIABLE,
    ENABLED_VARIABLE,
    DEBUG_VARIABLE,
    ALLOW_HTTP_VARIABLE,
    PROXY_VARIABLE,
    CA_FILE_VARIABLE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """
    The options of an integration that its own agent gets.

    Attributes:
        on_invalid: Policy for arguments that cannot be sent. Not `Invalid.RAISE` by default: what a visitor
            types in must not become an error of the request.
        params: Sent with every message.
        enabled: Whether messages are sent at all; None: as the environment says.
        debug: Whether messages and answers are logged; None: as the environment says.

    Raises:
        ConfigError: One of them is unusable.
    """

    on_invalid: Invalid = Invalid.REPORT
    params: Mapping[str, Any] | None = None
    enabled: bool | None = None
    debug: bool | None = None

    def __post_init__(self) -> None:
        # Now, in the code that gives them, and not in a request.
        check_types(on_invalid=self.on_invalid)
        for name in ("enabled", "debug"):
            value = getattr(self, name)
            if value is not None:
                flag(name, value, default=False)
        if self.params is not None:
            object.__setattr__(self, "params", checked_params(self.params))

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of `Agent` and `ThreadedAgent`; the defaults of those stay theirs."""
        path = os.environ.get(SPOOL_VARIABLE)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        # An unusable path must not keep messages from being sent.
        values["spool"] = Spool(path, required=False) if path else None
        return {name: value for name, value in values.items() if value is not None}

    def __hash__(self) -> int:
        """Hash without the params, which are a mapping."""
        return hash((self.on_invalid, self.enabled, self.debug))


DEFAULT: Final = AgentOptions()

# The agents in use, by the environment and the options that each was made with.
_fallback_agents: dict[tuple[tuple[str | None, ...], AgentOptions], ThreadedAgent] = {}


def agent_of_the_environment(options: AgentOptions = DEFAULT) -> Agent:
    """Return a new agent; if the environment has no usable keys, one that drops everything, and log that."""
    try:
        return Agent(**options.keywords())
    except ConfigError as exc:
        _log_off(exc)
        return Agent(**_off(options))


def fallback_agent(options: AgentOptions = DEFAULT) -> ThreadedAgent:
    """
    Return the agent of the process for requests around which no event loop is sure to live: without a lifespan.

    In tests the environment changes; then so does the agent.
    """
    environment = tuple(map(os.environ.get, VARIABLES))
    agent = _fallback_agents.get((environment, options))
    return _made(environment, options) if agent is None else agent


def _made(environment: tuple[str | None, ...], options: AgentOptions = DEFAULT) -> ThreadedAgent:
    for key in list(_fallback_agents):
        # Another thread may have made this one since the look-up.
        old = _fallback_agents.pop(key, None) if key[0] != environment else None
        if old is not None:
            # There is no wait, because a request is being answered. The exit waits for the messages left by then.
            Thread(target=old.close, name="salesmachine-close", daemon=True).start()
    try:
        agent = ThreadedAgent(**options.keywords())
    except ConfigError as exc:
        _log_off(exc)
        agent = ThreadedAgent(**_off(options))
    # Without a lock, which a fork could leave locked. Of two made at once one is kept; the other has no thread yet.
    return _fallback_agents.setdefault((environment, options), agent)


def _log_off(exc: ConfigError) -> None:
    """
    Log that nothing is tracked. A missing token is usual on a developer's machine.

    On stderr, too, because web servers configure no logging but their own.
    """
    level = logging.ERROR if os.environ.get(TOKEN_VARIABLE) else logging.WARNING
    log_or_stderr(level, "tracking is off: %s", exc)


def _off(options: AgentOptions) -> dict[str, Any]:
    """
    Return the keyword arguments of an agent that drops everything, and reads nothing from the environment.

    Its transport fails: nothing is ever queued for it, but the application may `ping`.
    """
    return {
        "transport": NullTransport(Outcome.failed(ConnectionFailed("tracking is off"))),
        "spool": "",
        "before_send": nothing,
        "on_invalid": options.on_invalid,
        "enabled": True,
        "debug": False,
    }


def nothing(_message: dict[str, Any]) -> None:
    """Drop every message, after it was checked as always."""
