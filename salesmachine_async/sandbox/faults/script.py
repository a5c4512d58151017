"""Scripted faults: definition, validation and order."""

from __future__ import annotations

import math
import random
import re
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from salesmachine_async.sandbox.messages import MessageError, encode_json, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Drop = Literal["before", "during", "after"]

# Paths affected by a fault without a path: both APIs, never the control endpoints.
SCOPE = ("/v1/", "/v2/")
# Source: RFC 9110 §5.6.2 (token).
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One step of a fault script.

    A fault without settings passes requests through: `[Fault(times=2), Fault(status=503)]` passes two.

    Attributes:
        status: The status to answer instead of handling the request.
        times: Number of requests it applies to; None means until the script is replaced.
        retry_after: The `Retry-After` header: seconds, or any text (an HTTP-date, garbage).
        path: The path it applies to, or a prefix followed by `*`; None means both APIs (`/v1/…` and `/v2/…`).
        probability: Probability that it applies to a matching request; otherwise the next fault is considered.
        seed: Seed of the random numbers, for reproducible runs; None uses a random seed.
        drop: Drop the connection: `before` anything is applied; `after` it was applied, without a response, so that a
            client that retries creates a duplicate; `during` the response, after the status, the headers and half of
            the body.
        commit: Apply the request, but answer *status* or *raw* (a gateway timeout).
        partial: Apply only this many messages of a batch, although the response does not say so; *status* or *drop*
            determine the response.
        latency: Seconds to wait first.
        slow: Seconds over which the body of the response is sent; the head is sent at once.
        body: The body of the response: a text is sent unchanged, anything else as JSON; None means `{"error": …}`.
        headers: Extra headers of the response.
        raw: Text to send instead of an HTTP response, before the connection is closed.
    """

    status: int | None = None
    times: int | None = 1
    retry_after: float | str | None = None
    path: str | None = None
    probability: float = 1.0
    seed: int | None = None
    drop: Drop | None = None
    commit: bool = False
    partial: int | None = None
    latency: float = 0.0
    slow: float = 0.0
    body: Any = None
    headers: Mapping[str, str] | None = None
    raw: str | None = None

    def __post_init__(self) -> None:
        """Validate the values, because scripts also arrive as JSON."""
        for name, problem in _problems(self):
            if problem:
                raise ValueError(f"{name} {problem}")

    @classmethod
    def parse(cls, data: Any) -> Fault:
        """
        Create a fault from JSON.

        Raises:
            ValueError: Names the invalid field.
        """
        if not is_object(data):
            raise ValueError("must be an object")
        names = {field.name for field in fields(cls)}
        for name in data:
            if name not in names:
                raise ValueError(f"{name} is not a field of a fault; expected one of {', '.join(sorted(names))}")
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Return the fault as JSON, without fields that have their default."""
        shown: dict[str, Any] = {"times": self.times}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is not MISSING and value != field.default:
                shown[field.name] = dict(value) if field.name == "headers" else value
        return shown

    @property
    def applies(self) -> bool:
        """Whether the request is handled in spite of this fault."""
        if self.commit or self.partial is not None:
            return True
        return self.status is None and self.raw is None and self.drop != "before"


def _problems(fault: Any) -> Iterable[tuple[str, str | None]]:
    """Yield each field with its problem, or None."""
    yield "status", None if fault.status is None or _whole(fault.status, 200, 599) else "must be from 200 to 599"
    yield "times", None if fault.times is None or _whole(fault.times, 1) else "must be 1 or more, or null"
    yield "retry_after", _header_problem(fault.retry_after)
    yield "path", _path_problem(fault.path)
    yield "probability", None if _chance(fault.probability) else "must be a number above 0, and at most 1"
    yield "seed", None if fault.seed is None or _whole(fault.seed, -math.inf) else "must be a whole number, or null"
    yield "partial", None if fault.partial is None or _whole(fault.partial, 0) else "must be 0 or more, or null"
    yield "slow", None if _seconds(fault.slow) else "must be a number of seconds, 0 or more"
    yield "drop", None if fault.drop in (None, *get_args(Drop)) else f"must be one of {', '.join(get_args(Drop))}"
    yield "body", _body_problem(fault.body)
    yield "commit", None if isinstance(fault.commit, bool) else "must be true or false"
    yield "latency", None if _seconds(fault.latency) else "must be a number of seconds, 0 or more"
    yield "headers", _headers_problem(fault.headers)
    yield "raw", None if fault.raw is None or isinstance(fault.raw, str) else "must be a text"
    if fault.commit and fault.status is None and fault.raw is None:
        yield "commit", "needs a status, or raw"
    if fault.raw is not None and (fault.status, fault.drop) != (None, None):
        yield "raw", "excludes status and drop"
    if fault.drop in ("before", "after") and fault.status is not None:
        yield "drop", "excludes status, because no response is sent"
    if fault.partial is not None and fault.drop == "before":
        yield "partial", "excludes dropping the connection before anything is applied"
    if fault.slow and (fault.raw is not None or fault.drop is not None):
        yield "slow", "excludes raw and drop, which send no complete response"


def _whole(value: Any, least: float, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _chance(value: Any) -> bool:
    return _seconds(value) and 0 < value <= 1


def _body_problem(body: Any) -> str | None:
    try:
        encode_json(body)
    except MessageError as error:
        return str(error)
    return None


def _sendable(value: str) -> bool:
    return value.isprintable()


def _header_problem(value: Any) -> str | None:
    if isinstance(value, str):
        return None if _sendable(value) else "must not contain control characters"
    return None if value is None or _seconds(value) else "must be a number of seconds or a text"


def _path_problem(path: Any) -> str | None:
    if path is None:
        return None
    if not isinstance(path, str) or not path.startswith("/"):
        return "must start with /"
    if "*" in path[:-1]:
        return "may contain * only as the last character"
    return "must not be a control endpoint" if path.startswith("/_sandbox") else None


def _headers_problem(headers: Any) -> str | None:
    if headers is None:
        return None
    try:
        pairs = dict(headers).items()
    except (TypeError, ValueError):
        return "must be an object"
    for name, value in pairs:
        if not (isinstance(name, str) and HEADER.fullmatch(name) and isinstance(value, str) and _sendable(value)):
            return "must map names of headers to texts without control characters"
    return None


class Script:
    """
    The remaining faults: one ordered list for the whole server and one for each workspace.

    The first fault that matches the path of a request applies; faults of its workspace come first. Concurrent tests
    with different tokens therefore affect only their own requests.
    """

    def __init__(self) -> None:
        # By workspace; the key None is the list of the whole server.
        self._steps: dict[str | None, list[_ScriptStep]] = {}

    def put(self, faults: Iterable[Fault], workspace: str | None) -> None:
        """Replace the faults of *workspace*, or those of the whole server."""
        self._steps[workspace] = [_ScriptStep(fault) for fault in faults]

    def left(self, workspace: str | None) -> list[Fault]:
        """List the remaining faults of that script, each with its remaining `times`."""
        return [step.fault for step in list(self._steps.get(workspace, ()))]

    def take(self, path: str, workspace: str | None) -> Fault | None:
        """Return the fault that applies to a request to *path*, and count it."""
        for scope in dict.fromkeys((workspace, None)):
            steps = self._steps.get(scope, [])
            for index, step in enumerate(steps):
                if step.fits(path) and step.strikes():
                    fault = step.fault
                    if not step.count():
                        del steps[index]
                    return fault
        return None


class _ScriptStep:
    """A fault in a script, with its own random numbers."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._random = random.Random(fault.seed)  # noqa: S311 - not used for security

    def fits(self, path: str) -> bool:
        wanted = self.fault.path
        if wanted is None:
            return path.startswith(SCOPE)
        return path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted

    def strikes(self) -> bool:
        return self.fault.probability == 1 or self._random.random() < self.fault.probability

    def count(self) -> bool:
        """Count one use; return whether any is left."""
        times = self.fault.times
        if times is not None:
            if times == 1:
                return False
            self.fault = replace(self.fault, times=times - 1)
        return True
