"""Message ids: unique in every thread and process."""

from __future__ import annotations

import threading
from datetime import datetime
from uuid import UUID, uuid4

import orjson
import pytest

from salesmachine_async._core.message import Encoder
from salesmachine_async.errors import InvalidMessage
from tests.support.core import strict_loads
from tests.support.encoding import (
    FIRST,
    PREFIX,
    T0,
    Id,
    Lenient,
    ManualClock,
    compose,
    composed,
    encoder,
    line_of,
)


def test_minted_ids_count_up_and_look_like_uuids() -> None:
    """Each message has the next id; prefix and counter together have the shape of a UUID."""
    it = encoder()
    ids = [strict_loads(line)["messageId"] for _ in range(3) if (line := it.event("1", "e", None))]
    ids += [composed(it)["messageId"], composed(it, message_id="mine")["messageId"], composed(it)["messageId"]]
    assert ids == [PREFIX + str(100_000_000_000 + number) for number in range(4)] + ["mine", ids[-1]]
    assert ids[-1] == PREFIX + "100000000004"
    assert str(UUID(ids[0])) == ids[0]


def test_ids_go_on_for_ever() -> None:
    """Thousands of ids are all different and all of the same shape, and a message seldom goes the long way for one."""
    it = encoder()
    short, ids = 0, []
    for number in range(3500):
        line = it.event("1", "e", None) if number % 2 else it.record("contact", "contact_uid", "1", None)
        short += line is not None
        ids.append(strict_loads(line or it.encode(composed(it)))["messageId"])
    assert len(set(ids)) == 3500
    assert short >= 3490
    assert all(str(UUID(each)) == each and each.startswith(PREFIX) for each in ids)
    assert ids == sorted(ids)


def test_ids_are_unique_across_threads() -> None:
    """Eight threads at once never get the same id, on either way."""
    it = encoder()
    found: list[list[str]] = [[] for _ in range(8)]

    def mint(mine: list[str]) -> None:
        for number in range(2000):
            line = line_of(it, None) if number % 4 else it.encode(composed(it))
            mine.append(orjson.loads(line)["messageId"])

    threads = [threading.Thread(target=mint, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for mine in found for each in mine}) == 16_000


@pytest.mark.parametrize("given_id", ["x", " ", "é", "x" * 500, Id("mine")])
def test_a_given_message_id_is_sent(given_id: str) -> None:
    """Any non-empty text is accepted as an id."""
    message = composed(encoder(), message_id=given_id)
    assert message["messageId"] == given_id
    assert type(message["messageId"]) is str


@pytest.mark.parametrize(
    ("given_id", "problem"),
    [
        ("", "must not be empty"),
        ("\udc00", "must be valid Unicode"),
        (1, "must be a non-empty str, not int"),
        (b"x", "must be a non-empty str, not bytes"),
        (False, "must be a non-empty str, not bool"),
        (uuid4(), "must be a non-empty str, not UUID"),
    ],
)
def test_an_unusable_message_id(given_id: object, problem: str) -> None:
    """Any other id is refused; leniently, it is reported and a new one is created."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), message_id=given_id)
    assert (caught.value.path, caught.value.problem) == ("message_id", problem)
    lenient = Lenient()
    message = lenient.compose(message_id=given_id)
    assert message is not None
    assert message["messageId"] == FIRST
    assert lenient.reported == [("message_id", problem)]


class Process:
    """A process whose id changes, as after a fork; each has prefixes of its own."""

    def __init__(self) -> None:
        self.pid = 1
        self.clock = ManualClock()
        self.made = 0
        self.encoder = Encoder(self.new_prefix, self.clock, lambda: T0, lambda: self.pid)

    def new_prefix(self) -> str:
        self.made += 1
        return f"{self.made:08}{PREFIX[8:]}"

    def mint(self) -> str:
        return str(orjson.loads(line_of(self.encoder, None))["messageId"])


def test_a_child_process_has_ids_of_its_own_from_the_next_millisecond_on() -> None:
    """A fork that no hook of Python sees is noticed with the next time stamp: no id is minted twice."""
    process = Process()
    before = process.mint()
    process.pid = 2
    process.clock.now += 0.001
    after = process.mint()
    assert before.startswith("00000001")
    assert after.startswith("00000002")
    assert process.mint().startswith("00000002")
    assert process.made == 2


def test_a_child_process_has_ids_of_its_own_while_the_clock_stands_still() -> None:
    """With a frozen clock the fork is detected by the next thousand of ids."""
    process = Process()
    process.mint()
    process.pid = 2
    ids = [process.mint() for _ in range(1001)]
    assert len(set(ids)) == 1001
    assert ids[-1].startswith("00000002")


def test_a_child_process_has_ids_of_its_own_on_the_long_way() -> None:
    """A message with a time of its own needs no clock: its id is checked as well."""
    process = Process()
    composed(process.encoder)
    process.pid = 2
    assert composed(process.encoder, created_at=datetime(2026, 1, 2))["messageId"].startswith("00000002")


def test_ids_can_be_renewed() -> None:
    """After `renew` ids have another prefix at once."""
    process = Process()
    before = process.mint()
    process.encoder.renew()
    assert process.mint()[8:] == before[8:]
    assert process.made == 2


def test_a_renewal_that_is_interrupted_is_repeated() -> None:
    """A child does not use the prefix of its parent, although a signal handler raised in the middle."""
    process = Process()
    process.mint()
    process.pid = 2
    process.clock.now += 0.001

    def interrupt() -> str:
        raise KeyboardInterrupt

    process.encoder._new_prefix = interrupt
    with pytest.raises(KeyboardInterrupt):
        process.mint()
    process.encoder._new_prefix = process.new_prefix
    process.clock.now += 0.001
    assert process.mint().startswith("00000002")
