"""
Encoding of the arguments of a call as one line of bytes.

A line is the JSON object of a message without a newline at its end. orjson writes neither white space nor a raw newline
inside an object, so lines can be joined by newlines, counted and separated without parsing; `Batch` joins them to the
JSON array of a request.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, Protocol

import orjson

from salesmachine_async._core.jsonable import Cleaner, own_dict, raise_invalid, stored
from salesmachine_async._core.simplify import name_of, real, without_surrogates
from salesmachine_async._core.uid import check_uids
from salesmachine_async.errors import InvalidMessage

__all__ = ["Clock", "Encoder", "encode", "partition_key", "revise"]

# The table of types converts dataclasses and times, because one rule holds for all models, orjson 3.13.0 writes
# time(0, 0, 0, 10000) as 00:00:00.10000, and a tzinfo that raises crashes the process. The newline is appended so that
# stripping it copies the bytes: orjson never trims its buffer, and 136 bytes of message would occupy 4 KiB.
OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_APPEND_NEWLINE

# The arguments that identify the subject of a message.
UIDS: Final = ("contact_uid", "account_uid", "event_uid", "alias")

# An id has the form of a UUID: a prefix, nine digits for every thousand ids, and one of these. Joining two existing
# strings takes less than half the time of formatting a number.
_THOUSAND: Final = tuple(f"{number:03}" for number in range(1000))
_FIRST_THOUSAND: Final = 10**8

_dumps: Final = orjson.dumps
_Datetime: Final = real(datetime)

# orjson copies the content of a Fragment unread, at any depth, so a broken one would corrupt its whole batch. Since
# 3.13 a Fragment holds a reference to its type, so the reference count of the type shows in 10 ns that none exists;
# checking each value of each call would take as long as the rest of its encoding.
_FRAGMENT: Final = orjson.Fragment
_refs: Final = sys.getrefcount


def _refs_when_unused() -> int:
    """Return the reference count of the type while no Fragment exists; -1 if Fragments do not hold a reference."""
    before = _refs(_FRAGMENT)
    fragment = _FRAGMENT(b"")
    return before if _refs(_FRAGMENT) > before and fragment else -1


_unused = _refs_when_unused()


def _dumps_odd(message: dict[str, Any]) -> bytes | None:
    """Encode a message value by value, which finds a Fragment; None if `compose` has to report a problem."""
    global _unused  # noqa: PLW0603
    # A lower count than at the import means that a Fragment of that time no longer exists.
    _unused = min(_unused, _refs(_FRAGMENT))
    try:
        message["params"] = own_dict(message["params"], 0)
        return _dumps(message, None, OPTIONS).rstrip()
    except Exception:  # noqa: BLE001 (the conversion of a value may be the user's own code)
        return None


class Clock(Protocol):
    """The module `time`, or an object with a function of the same name."""

    def time(self) -> float:
        """Return the wall clock in seconds since the epoch."""
        ...


class Encoder:
    """
    Encodes calls, and creates message ids and timestamps. It may be used by several threads at once.

    Args:
        new_prefix: Returns 24 random characters in the form of the beginning of a UUID, which make the ids of this
            agent in this process unique.
        clock: Its function is looked up for each message, so that a replaced clock takes effect.
        spare_clock: The real clock, read if a replaced one raises or returns no usable time.
        process_id: Returns the id of the process; called at most once per millisecond.
        on_problem: Called with the path and the problem of each argument that cannot be sent. The default raises. If
            it returns, the value becomes null, or the whole message None if it is unusable without that argument.
    """

    __slots__ = (
        "_clock",
        "_ids",
        "_new_prefix",
        "_on_problem",
        "_pid",
        "_process_id",
        "_second",
        "_spare_clock",
        "_stamp",
        "_thousands",
    )

    def __init__(
        self,
        new_prefix: Callable[[], str],
        clock: Clock,
        spare_clock: Callable[[], float],
        process_id: Callable[[], int],
        on_problem: Callable[[str, str], None] = raise_invalid,
    ) -> None:
        self._new_prefix = new_prefix
        self._clock = clock
        self._spare_clock = spare_clock
        self._process_id = process_id
        self._on_problem = on_problem
        # Start (inclusive), end (exclusive) and text of a millisecond; replaced as one tuple, so that no thread sees
        # the text of one millisecond with the bounds of another.
        self._stamp = (0.0, 0.0, "1970-01-01T00:00:00.000Z")
        self._second: tuple[int | None, str] = (None, "")
        self.renew()

    def renew(self) -> None:
        """Start a new prefix of ids, because those of a forked process must differ from its parent's."""
        pid = self._process_id()
        # next() of a count and popleft() of a deque are atomic, so two threads never get the same id.
        self._thousands = (self._new_prefix(), count(_FIRST_THOUSAND).__next__)
        self._ids = self._thousand_ids()
        self._pid = pid  # last, so that a renewal that an exception interrupts is repeated

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
        ):
            return None
        # A replaced clock may raise any exception, so the slow way reads it under guard.
        if (clock := self._clock.time) is not self._spare_clock:
            return None
        now = clock()
        start, end, stamp = self._stamp
        if not start <= now < end:
            stamp = self._stamp_at(now)
        head, next_number = self._ids
        try:
            message_id = head + next_number()
        except IndexError:
            return None  # these thousand ids are used up
        message: dict[str, Any] = {
            "method": "event",
            "contact_uid": contact_uid,
            "event_uid": event_uid,
            # A copy, because orjson runs Python code to read the value of an Enum, and another thread may change the
            # caller's dict during that time.
            "params": params.copy() if params else {},
            "created_at": stamp,
            "messageId": message_id,
        }
        try:
            if _refs(_FRAGMENT) == _unused:
                return _dumps(message, None, OPTIONS).rstrip()
        except TypeError:
            pass
        return _dumps_odd(message)

    def record(self, method: str, uid_name: str, uid: object, params: Any) -> bytes | None:
        """
        Encode a contact or an account the fast way.

        Returns:
            The line, or None when the arguments need `compose`.
        """
        if type(uid) is not str or not uid or (type(params) is not dict and params is not None):
            return None
        if (clock := self._clock.time) is not self._spare_clock:
            return None
        now = clock()
        start, end, stamp = self._stamp
        if not start <= now < end:
            stamp = self._stamp_at(now)
        head, next_number = self._ids
        try:
            message_id = head + next_number()
        except IndexError:
            return None
        message: dict[str, Any] = {
            "method": method,
            uid_name: uid,
            "params": params.copy() if params else {},
            "created_at": stamp,
            "messageId": message_id,
        }
        try:
            if _refs(_FRAGMENT) == _unused:
                return _dumps(message, None, OPTIONS).rstrip()
        except TypeError:
            pass
        return _dumps_odd(message)

    def compose(
        self, method: str, uids: dict[str, object], params: object, created_at: object, message_id: object
    ) -> dict[str, Any] | None:
        """
        Check and convert the arguments of a contact, account or event one by one.

        Args:
            method: ``contact``, ``account`` or ``event``.
            uids: The identifying arguments by name.
            params: A mapping or None.
            created_at: A datetime, or None for now.
            message_id: A non-empty str, or None to create one.

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

        The documented body has two keys; a ``messageId`` is added only if the caller passes one.
        """
        texts = check_uids({"contact_uid": contact_uid, "alias": alias}, self._on_problem)
        if texts is not None and message_id is not None:
            return {**texts, "messageId": self._message_id(message_id)}
        return texts

    def encode(self, message: dict[str, Any]) -> bytes:
        """Encode a composed message."""
        return encode(message, self._on_problem)

    def _now(self) -> str:
        """Return the text of this moment; the last known one when no clock can be read."""
        if (clock := self._clock.time) is self._spare_clock:
            return self._stamp_at(clock())
        # A clock that a test has put in the place of the real one may raise anything.
        with suppress(Exception):
            return self._stamp_at(clock())
        with suppress(Exception):
            return self._stamp_at(self._spare_clock())
        return self._stamp[2]

    def _stamp_at(self, now: float) -> str:
        milliseconds = int(now * 1000)
        second, rest = divmod(milliseconds, 1000)
        # The text of a second is kept too: `datetime` takes ten times as long as the rest of this, and an application
        # with less than a thousand calls a second comes here with each of them.
        known, head = self._second
        if second != known:
            head = _Datetime.fromtimestamp(second, UTC).isoformat()[:19] + "."
            self._second = (second, head)
        text = f"{head}{_THOUSAND[rest]}Z"
        self._stamp = (milliseconds / 1000, (milliseconds + 1) / 1000, text)
        self._renew_after_fork()
        return text

    def _renew_after_fork(self) -> None:
        """Start a new prefix after a fork by C code, which runs none of Python's fork hooks."""
        if self._process_id() != self._pid:
            self.renew()

    def _params(self, params: Any) -> dict[Any, Any]:
        if params is None:
            return {}
        if type(params) is dict:
            return params.copy()  # pyright: ignore[reportUnknownVariableType]
        try:
            if issubclass(type(params), dict):
                return stored(params)
            if isinstance(params, Mapping):
                return dict(params)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        except Exception as exc:  # noqa: BLE001 (the mapping is the user's own code)
            self._on_problem("params", f"could not be read ({type(exc).__name__})")
            return {}
        self._on_problem("params", f"must be a mapping, not {name_of(params)}")
        return {}

    def _created_at(self, created_at: Any) -> str:
        if issubclass(type(created_at), _Datetime):
            try:
                aware = created_at if created_at.utcoffset() is not None else created_at.replace(tzinfo=UTC)
                return _iso(aware.astimezone(UTC))
            except Exception as exc:  # noqa: BLE001 (tzinfo is the user's own code; the year may leave 1..9999)
                self._on_problem("created_at", f"is no moment in UTC ({type(exc).__name__})")
        elif created_at is not None:
            self._on_problem("created_at", f"must be a datetime, not {name_of(created_at)}")
        return self._now()

    def _message_id(self, message_id: Any) -> str:
        if issubclass(type(message_id), str):
            text = str.__str__(message_id)
            if text and text == without_surrogates(text):
                return text
            self._on_problem("message_id", "must not be empty" if not text else "must be valid Unicode")
        elif message_id is not None:
            self._on_problem("message_id", f"must be a non-empty str, not {name_of(message_id)}")
        self._renew_after_fork()
        while True:
            head, next_number = self._ids
            try:
                return head + next_number()
            except IndexError:
                # Two threads may both come here, which leaves some numbers unused. Other threads may also use all new
                # numbers before this one gets one, hence the loop.
                self._ids = self._thousand_ids()

    def _thousand_ids(self) -> tuple[str, Callable[[], str]]:
        prefix, next_thousand = self._thousands
        return f"{prefix}{next_thousand()}", deque(_THOUSAND).popleft


def encode(message: dict[str, Any], on_problem: Callable[[str, str], None]) -> bytes:
    """Encode a composed message, or one changed by a hook, as one line."""
    try:
        return _dumps(own_dict(message, -1), None, OPTIONS).rstrip()
    except Exception:  # noqa: BLE001 (the Cleaner below reports the same problem with its path)
        clean = Cleaner(on_problem).clean
    return _dumps({name: clean(value, name) for name, value in message.items()}, None, OPTIONS).rstrip()


def revise(message: dict[str, Any], changed: object) -> dict[str, Any]:
    """
    Return *message* with the uids and params of *changed*, the result of a hook; other keys keep their values.

    Raises:
        InvalidMessage: *changed* is not a message.
    """
    if not issubclass(type(changed), dict):
        raise InvalidMessage("message", f"must be a dict or None, not {name_of(changed)}")
    revised = _read("message", changed)
    result = {
        **message,
        **(check_uids({name: revised.get(name) for name in UIDS if name in message}, raise_invalid) or {}),
    }
    if "params" in message:
        params = revised.get("params", {})
        if not issubclass(type(params), dict):
            raise InvalidMessage("params", f"must be a dict, not {name_of(params)}")
        result["params"] = _read("params", params)
    return result


def _read(path: str, mapping: Any) -> dict[Any, Any]:
    """Copy a dict whose class may be the user's own."""
    try:
        return stored(mapping)
    except Exception as exc:  # noqa: BLE001 (its keys are the user's own code)
        raise InvalidMessage(path, f"could not be read ({type(exc).__name__})") from None


def partition_key(message: dict[str, Any]) -> str:
    """Return the uid that selects the partition: the contact's, or the account's in an account message."""
    uid: str = message["contact_uid"] if "contact_uid" in message else message["account_uid"]
    return uid


def _iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds and Z, the form of Salesmachine's own Ruby client."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
