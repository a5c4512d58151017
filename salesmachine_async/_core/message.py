"""
A call's arguments become one line of bytes.

A line is the message's JSON object, without a newline at its end. orjson writes neither white space nor a raw
newline inside an object, so lines can be joined by newlines, counted and cut apart without parsing them again;
`Batch` turns them into the JSON array of the wire.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from types import NoneType
from typing import Any, Final, cast

import orjson

from salesmachine_async._core.jsonable import (
    MAX_DEPTH,
    Cleaner,
    Unencodable,
    raise_invalid,
    simplify,
    without_surrogates,
)
from salesmachine_async.errors import InvalidMessage

# Dataclasses go through `simplify`: one rule for all models. So do dates and times, at a microsecond each: orjson
# 3.13.0 writes time(0, 0, 0, 10000) as 00:00:00.10000, and a tzinfo that raises crashes the process.
# The newline is there to be cut off: orjson never trims its buffer, so that 136 bytes of message would hold 4 KiB, and
# the slice is a copy of exactly the line's size.
OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_APPEND_NEWLINE

# Values looked at for a Fragment before the slow path is taken instead.
MAX_SCANNED: Final = 10_000

# The arguments that say whom or what a message is about.
UIDS: Final = ("contact_uid", "account_uid", "event_uid", "alias")

# Ids are a prefix, a number of nine digits for every thousand of them, and one of these: together a UUID's shape.
# Joining two ready texts costs less than half of formatting a number (43 against 113 ns on CPython 3.11).
_THOUSAND: Final = tuple(f"{number:03}" for number in range(1000))
_FIRST_THOUSAND: Final = 10**8

# orjson copies a Fragment out unvalidated, at any depth: a broken one would corrupt its whole batch, and no option
# forbids it. Every living Fragment holds a reference to its type, so this count tells in 10 ns that there is none;
# looking through the params of every call instead costs 200 ns (CPython 3.11). What it cannot see: a reference that
# is there while this is imported and is dropped later hides one Fragment.
_FRAGMENT: Final = orjson.Fragment
_refcount: Final = sys.getrefcount
_dumps: Final = orjson.dumps
_NO_FRAGMENTS: Final = _refcount(_FRAGMENT)


# What holds nothing else, and is written by orjson without a call.
_LEAVES: Final = frozenset({str, int, float, bool, NoneType})


class Encoder:
    """
    Encodes calls; mints message ids and timestamps. Several threads may use it at once.

    Args:
        id_prefix: 24 characters, as a UUID begins: what makes the ids of this agent in this process unique.
        clock: Returns the wall clock in seconds since the epoch; read once per message.
        on_problem: Called with path and problem of each argument that cannot be sent. The strict one, the
            default, raises. When it returns, the value becomes null, or the whole message None if it is
            unusable without that argument.
    """

    __slots__ = ("_clock", "_ids", "_on_problem", "_prefix", "_second", "_stamp", "_thousands")

    def __init__(
        self, id_prefix: str, clock: Callable[[], float], on_problem: Callable[[str, str], None] = raise_invalid
    ) -> None:
        self._prefix = id_prefix
        # next() of such an iterator, and of the one in `_ids`, is one atomic step: two threads never get the same.
        self._thousands = count(_FIRST_THOUSAND).__next__
        self._ids = self._thousand_ids()
        self._clock = clock
        self._on_problem = on_problem
        # The text of a millisecond, from when (inclusive) until when (exclusive) it holds; replaced as one tuple,
        # so that no thread sees the text of one millisecond with the bounds of another.
        self._stamp = (0.0, 0.0, "")
        self._second: tuple[int, str] = (-1, "")

    def event(self, contact_uid: object, event_uid: object, params: Any) -> bytes | None:
        """
        Encode an event the fast way.

        Returns:
            The line, or None when the arguments need `compose`.
        """
        if (
            type(contact_uid) is not str
            or type(event_uid) is not str
            or not contact_uid
            or not event_uid
            or (type(params) is not dict and params is not None)
            or (_refcount(_FRAGMENT) != _NO_FRAGMENTS and _holds_fragment(params))
        ):
            return None
        clock = self._clock
        start, end, stamp = self._stamp
        if not start <= (now := clock()) < end:
            stamp = self._stamp_at(now)
        prefix, numbers = self._ids
        try:
            message_id = prefix + next(numbers)
        except StopIteration:
            return None
        message: dict[str, Any] = {
            "method": "event",
            "contact_uid": contact_uid,
            "event_uid": event_uid,
            # A copy (70 ns): of an Enum orjson reads `value`, which is Python code, in whose middle another thread may
            # change the caller's dict. orjson would go on in what is no longer there, and send whatever it finds.
            "params": params.copy() if params else {},
            "created_at": stamp,
            "messageId": message_id,
        }
        try:
            return _dumps(message, None, OPTIONS)[:-1]
        except TypeError:
            return _dumps_odd(message)

    def record(self, method: str, uid_name: str, uid: object, params: Any) -> bytes | None:
        """
        Encode a contact or an account the fast way.

        Returns:
            The line, or None when the arguments need `compose`.
        """
        if (
            type(uid) is not str
            or not uid
            or (type(params) is not dict and params is not None)
            or (_refcount(_FRAGMENT) != _NO_FRAGMENTS and _holds_fragment(params))
        ):
            return None
        clock = self._clock
        start, end, stamp = self._stamp
        if not start <= (now := clock()) < end:
            stamp = self._stamp_at(now)
        prefix, numbers = self._ids
        try:
            message_id = prefix + next(numbers)
        except StopIteration:
            return None
        message: dict[str, Any] = {
            "method": method,
            uid_name: uid,
            "params": params.copy() if params else {},
            "created_at": stamp,
            "messageId": message_id,
        }
        try:
            return _dumps(message, None, OPTIONS)[:-1]
        except TypeError:
            return _dumps_odd(message)

    def compose(
        self, method: str, uids: dict[str, object], params: object, created_at: object, message_id: object
    ) -> dict[str, Any] | None:
        """
        Check and convert the arguments of a contact, account or event, one by one.

        Args:
            method: ``contact``, ``account`` or ``event``.
            uids: The identifying arguments by name.
            params: A mapping or None.
            created_at: A datetime, or None for now.
            message_id: A non-empty str, or None to mint one.

        Returns:
            The message, for `encode`; None when an identifying argument is unusable.
        """
        texts = check_uids(uids, self._on_problem)
        if texts is None:
            return None
        return {
            "method": method,
            **texts,
            "params": self._params(params),
            "created_at": self._created_at(created_at),
            "messageId": self._message_id(message_id),
        }

    def compose_alias(self, contact_uid: object, alias: object, message_id: object) -> dict[str, Any] | None:
        """
        Check and convert the arguments of an alias.

        The documented body has two keys and no more; a ``messageId`` is added only for a caller who gave one.
        """
        texts = check_uids({"contact_uid": contact_uid, "alias": alias}, self._on_problem)
        if texts is not None and message_id is not None:
            return {**texts, "messageId": self._message_id(message_id)}
        return texts

    def encode(self, message: dict[str, Any]) -> bytes:
        """Encode a composed message: as fast as its params allow."""
        return encode(message, self._on_problem)

    def _stamp_at(self, now: float) -> str:
        milliseconds = int(now * 1000)
        second, rest = divmod(milliseconds, 1000)
        # The text of a second is kept too: `datetime` takes ten times as long as the rest of this, and an application
        # with less than a thousand calls a second comes here with each of them.
        known, head = self._second
        if second != known:
            head = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._second = (second, head)
        text = f"{head}{_THOUSAND[rest]}Z"
        self._stamp = (milliseconds / 1000, (milliseconds + 1) / 1000, text)
        return text

    def _params(self, params: Any) -> dict[Any, Any]:
        if params is None:
            return {}
        try:
            if issubclass(type(params), dict):
                return _stored(params)
            if isinstance(params, Mapping):
                return dict(params)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        except Exception as exc:  # noqa: BLE001 (the mapping is the user's own code)
            self._on_problem("params", f"could not be read ({type(exc).__name__})")
            return {}
        self._on_problem("params", f"must be a mapping, not {type(params).__qualname__}")
        return {}

    def _created_at(self, created_at: Any) -> str:
        if issubclass(type(created_at), datetime):
            try:
                aware = created_at if created_at.utcoffset() is not None else created_at.replace(tzinfo=UTC)
                return _iso(aware.astimezone(UTC))
            except Exception as exc:  # noqa: BLE001 (tzinfo is the user's own code; the year may leave 1..9999)
                self._on_problem("created_at", f"is no moment in UTC ({type(exc).__name__})")
        elif created_at is not None:
            self._on_problem("created_at", f"must be a datetime, not {type(created_at).__qualname__}")
        return self._stamp_at(self._clock())

    def _message_id(self, message_id: Any) -> str:
        if issubclass(type(message_id), str):
            text = str.__str__(message_id)
            if text and text == without_surrogates(text):
                return text
            self._on_problem("message_id", "must not be empty" if not text else "must be valid Unicode")
        elif message_id is not None:
            self._on_problem("message_id", f"must be a non-empty str, not {type(message_id).__qualname__}")
        while True:
            prefix, numbers = self._ids
            try:
                return prefix + next(numbers)
            except StopIteration:
                # Two threads may both come here: then some numbers of a thousand stay unused. Others may also use
                # all of them before this one comes round.
                self._ids = self._thousand_ids()

    def _thousand_ids(self) -> tuple[str, Iterator[str]]:
        return f"{self._prefix}{self._thousands()}", iter(_THOUSAND)


def _stored(params: dict[Any, Any]) -> dict[Any, Any]:
    """Copy what a dict holds, as orjson reads it: one of its own kind may tell otherwise, or raise."""
    return dict(dict.items(params))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _plain(value: Any) -> Any:
    """As `simplify`, but what turns into a Fragment is left to the slow path, which refuses it."""
    plain = simplify(value)
    if _refcount(_FRAGMENT) != _NO_FRAGMENTS:
        raise Unencodable("a Fragment has no JSON form")
    return plain


def _holds_fragment(message: Any) -> bool:
    """Whether a Fragment stands in a message or its params, as far as orjson would find it without help."""
    found: list[Any] = [message]
    # Bounded, for what contains itself: then the slow path decides.
    for _ in range(MAX_SCANNED):
        if not found:
            return False
        value = found.pop()
        if isinstance(value, dict):
            found.extend(value.values())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        elif isinstance(value, list | tuple):
            found.extend(value)  # pyright: ignore[reportUnknownArgumentType]
        elif type(value) is _FRAGMENT:
            return True
    return True


def encode(message: dict[str, Any], on_problem: Callable[[str, str], None]) -> bytes:
    """Encode a composed message, or the same changed by a hook, as one line."""
    if _refcount(_FRAGMENT) == _NO_FRAGMENTS or not _holds_fragment(message):
        try:
            return _dumps(message, None, OPTIONS)[:-1]
        except TypeError:
            line = _dumps_odd(message)
        if line is not None:
            return line
    clean = Cleaner(on_problem).clean
    return orjson.dumps({name: clean(value, name) for name, value in message.items()}, None, OPTIONS)[:-1]


def _dumps_odd(message: dict[str, Any]) -> bytes | None:
    """Encode with the values that `simplify` knows; None is for the `Cleaner`."""
    try:
        # All else in a message is text of ours.
        own = {**message, "params": _owned(message["params"], 1)} if "params" in message else message
        return orjson.dumps(own, _plain_owned, OPTIONS)[:-1]
    except (TypeError, RecursionError) as exc:
        if exc.__cause__ is not None and not isinstance(exc.__cause__, Exception):
            raise exc.__cause__ from None  # a KeyboardInterrupt, say, that came in the hook
        return None


def _owned(value: Any, depth: int) -> Any:
    """
    Copy the containers: during a call of the hook, another thread or the hook itself may change the caller's.

    orjson then reads items that are not there any more, and the process crashes.

    Raises:
        TypeError: It is nested too deeply.
    """
    cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if cls in _LEAVES:
        return value
    if depth > MAX_DEPTH:
        raise TypeError
    if cls is dict or issubclass(cls, dict):
        own: Any = dict.copy(value)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        # Leaves are let through here too: that halves the cost.
        return {key: item if type(item) in _LEAVES else _owned(item, depth + 1) for key, item in own.items()}
    if cls is list or cls is tuple or issubclass(cls, list):
        return [item if type(item) in _LEAVES else _owned(item, depth + 1) for item in tuple(value)]
    return value


def _plain_owned(value: Any) -> Any:
    return _owned(_plain(value), 0)


def revise(message: dict[str, Any], changed: object) -> dict[str, Any]:
    """
    Return *message* with the uids and params of *changed*, which a hook made of it. All else stays as it was.

    Raises:
        InvalidMessage: It is no message any more.
    """
    if not isinstance(changed, dict):
        raise InvalidMessage("message", f"must be a dict or None, not {type(changed).__qualname__}")
    revised = cast("dict[str, Any]", changed)
    result = {
        **message,
        **(check_uids({name: revised.get(name) for name in UIDS if name in message}, raise_invalid) or {}),
    }
    if "params" in message:
        params = revised.get("params", {})
        if not isinstance(params, dict):
            raise InvalidMessage("params", f"must be a dict, not {type(params).__qualname__}")
        result["params"] = _stored(params)  # pyright: ignore[reportUnknownArgumentType]
    return result


def partition_key(message: dict[str, Any]) -> str:
    """Return the uid whose order counts: the contact's, or of an account message the account's."""
    uid: str = message["contact_uid"] if "contact_uid" in message else message["account_uid"]
    return uid


def check_uids(uids: dict[str, object], on_problem: Callable[[str, str], None]) -> dict[str, str] | None:
    """Return identifying arguments as text; None when one is unusable and *on_problem* has not raised."""
    texts: dict[str, str] = {}
    for name, value in uids.items():
        text, problem = _uid(value)
        if problem is not None:
            on_problem(name, problem)
            return None
        texts[name] = text
    return texts


def _uid(value: Any) -> tuple[str, str | None]:
    """Return a uid's text, and what is wrong with it."""
    # By the type: proxies and mocks answer `isinstance` for another.
    cls: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(cls, str):
        text = str.__str__(value)
        if not text:
            return text, "must not be empty"
        if text != without_surrogates(text):
            # Replacing the broken character could make one of two people.
            return text, "must be valid Unicode (it holds a lone surrogate)"
        return text, None
    if issubclass(cls, int) and cls is not bool:
        try:
            return int.__repr__(value), None
        except ValueError:  # beyond sys.get_int_max_str_digits()
            return "", "has too many digits"
    return "", f"must be a non-empty str or an int, not {type(value).__qualname__}"


def _iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and Z, the form that Salesmachine's own Ruby client sent."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
