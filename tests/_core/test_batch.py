"""What one request carries."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.batch import OPEN, Batch, Endpoint, seal
from salesmachine_async._core.message import OPTIONS
from tests.support.core import strict_loads

HOSTILE = ["\n", "\r\n", "},{", "[", "]", '"', "\\", "\\n", "\u2028", "\x00", "}\n{", '"}],"', "é", "\U0001f600", ""]
hostile_text = st.lists(st.sampled_from(HOSTILE) | st.characters(codec="utf-8"), max_size=4).map("".join)
hostile_messages = st.lists(st.dictionaries(hostile_text, hostile_text, max_size=2), min_size=1, max_size=7)


def batch(messages: list[Any], **where: Any) -> Batch:
    """Make a batch the way the accumulator does: lines appended to an open buffer, which is then sealed."""
    buffer = bytearray(OPEN)
    for message in messages:
        buffer += orjson.dumps(message, None, OPTIONS)
    return Batch(seal(buffer), len(messages), **where)


def displaced(it: Batch) -> Batch:
    """Take the oldest message out, as the accumulator does."""
    oldest = it.oldest()
    it.start += oldest.size
    it.count -= 1
    return oldest


def test_endpoints_are_the_documented_paths() -> None:
    """Batches, aliases and pings go where the API documents say."""
    assert [each.value for each in Endpoint] == ["/v1/batch", "/v1/alias", "/v1/ping"]


def test_body_of_a_batch_is_one_json_array() -> None:
    """The messages stand in one bare array, in order, without white space."""
    assert batch([{"a": 1}, {"b": "x"}]).body() == b'[{"a":1},{"b":"x"}]'


def test_body_of_an_alias_is_one_json_object() -> None:
    """An alias is no batch: its body is the object itself."""
    alias = batch([{"contact_uid": "1", "alias": "2"}], endpoint=Endpoint.ALIAS)
    assert alias.body() == b'{"contact_uid":"1","alias":"2"}'
    assert alias.body_size == len(alias.body())
    assert alias.size == alias.body_size + 1


def test_a_ping_has_no_body_and_no_messages() -> None:
    """A ping asks; it carries nothing."""
    ping = Batch.ping()
    assert (ping.body(), ping.body_size, ping.count, ping.messages(), ping.lines()) == (b"", 0, 0, [], [])
    assert ping.endpoint is Endpoint.PING


def test_a_fresh_batch_was_never_sent() -> None:
    """It has no attempts behind it, and is neither searched nor suspected."""
    fresh = batch([{}])
    assert (fresh.attempts, fresh.failing_since, fresh.searching, fresh.suspected) == (0, None, False, False)
    assert fresh.partner is None


@given(hostile_messages)
def test_no_content_breaks_a_batch(messages: list[Any]) -> None:
    """Body, sizes, messages and lines are right, whatever the messages hold."""
    it = batch(messages)
    assert strict_loads(it.body()) == messages
    assert it.messages() == messages
    assert [strict_loads(line) for line in it.lines()] == messages
    assert it.size + 1 == it.body_size == len(it.body())
    assert Batch.of_lines(it.lines()).body() == it.body()


@given(hostile_messages)
def test_messages_leave_one_by_one(messages: list[Any]) -> None:
    """The oldest message can be taken out until one is left; what remains is a correct batch each time."""
    it = batch(messages, partition=3, epoch=4, order=5)
    for index in range(len(messages) - 1):
        oldest = displaced(it)
        assert strict_loads(oldest.body()) == [messages[index]]
        assert (oldest.count, oldest.partition, oldest.epoch, oldest.order) == (1, 3, 4, 5)
        rest = messages[index + 1 :]
        assert strict_loads(it.body()) == it.messages() == rest
        assert it.count == len(rest) == len(it.lines())
        assert it.size + 1 == it.body_size == len(it.body())


@given(hostile_messages.filter(lambda messages: len(messages) > 1), st.booleans(), st.integers(0, 8))
def test_halves_hold_the_same_messages_in_order(messages: list[Any], searching: bool, popped: int) -> None:
    """Both halves hold something, the older one first and no larger; together they are the whole."""
    it = batch(messages)
    for _ in range(min(popped, len(messages) - 2)):
        displaced(it)
    whole = it.messages()
    older, newer = it.search_halves() if searching else it.halves()
    assert strict_loads(older.body()) + strict_loads(newer.body()) == whole
    assert (older.count, newer.count) == (len(whole) // 2, len(whole) - len(whole) // 2)
    assert older.body_size == len(older.body())
    assert newer.body_size == len(newer.body())


def test_halves_inherit_where_they_belong_and_what_they_went_through() -> None:
    """Sender, epoch, order, attempts and the start of the failure are those of the whole."""
    whole = batch([{}, {}, {}], partition=1, epoch=2, order=3)
    whole.attempts, whole.failing_since = 4, 5.0
    for half in whole.halves():
        assert (half.partition, half.epoch, half.order, half.attempts, half.failing_since) == (1, 2, 3, 4, 5.0)
        assert half.endpoint is Endpoint.BATCH
        assert not half.searching
        assert not half.suspected


def test_the_newer_half_of_a_search_is_suspected() -> None:
    """Once the older half is delivered, the guilty message must be in the newer one."""
    older, newer = batch([{}, {}]).search_halves()
    assert (older.searching, older.suspected) == (True, False)
    assert (newer.searching, newer.suspected) == (True, True)


def test_a_guilty_message_in_the_older_half_clears_the_newer_one() -> None:
    """One guilty message explains the refusal: the newer half is sent as it is."""
    older, newer = batch([{}, {}]).search_halves()
    older.found_guilty()
    assert not newer.suspected


def test_a_guilty_message_clears_the_newer_halves_of_all_levels() -> None:
    """What explains the refusal of the smallest part explains that of every larger one around it."""
    older, newer = batch([{}] * 8).search_halves()
    inner_older, inner_newer = older.search_halves()
    innermost, neighbour = inner_older.search_halves()
    innermost.found_guilty()
    assert [each.suspected for each in (neighbour, inner_newer, newer)] == [False, False, False]


def test_a_guilty_message_in_the_newer_half_clears_only_those_after_it() -> None:
    """A guilty message says nothing of its own older half, which is settled already."""
    older, newer = batch([{}] * 8).search_halves()
    inner_older, inner_newer = newer.search_halves()
    inner_newer.found_guilty()
    assert newer.suspected
    assert inner_newer.suspected
    assert not older.suspected
    assert not inner_older.suspected


def test_guilt_outside_a_search_changes_nothing() -> None:
    """A batch of one that was never part of another clears nobody."""
    alone = batch([{}])
    alone.found_guilty()
    assert not alone.suspected


@pytest.mark.parametrize(("count", "shown"), [(1, "1 messages, 16 bytes"), (2, "2 messages, 31 bytes")])
def test_repr_shows_no_payload(count: int, shown: str) -> None:
    """The repr tells what it is, how many and how large, and nothing of what it holds."""
    assert repr(batch([{"p": "SECRET"}] * count)) == f"<Batch /v1/batch | {shown}>"


def test_decoded_messages_are_made_anew() -> None:
    """Changing a decoded message changes nothing of the batch."""
    it = batch([{"a": [1]}])
    it.messages()[0]["a"].append(2)
    assert it.messages() == [{"a": [1]}]


def test_sealing_leaves_no_air() -> None:
    """A sealed buffer is a bytes object of exactly the body's length."""
    sealed = seal(bytearray(b"[{}\n{}\n"))
    assert sealed == b"[{}\n{}]"
    assert type(sealed) is bytes


def test_no_memory_to_seal_leaves_the_buffer_open() -> None:
    """Lines that come later do not stand behind the end of an array."""

    class Full(bytearray):
        def __radd__(self, other: bytes) -> bytes:
            raise MemoryError

    buffer = Full(OPEN + b"1\n")
    with pytest.raises(MemoryError):
        seal(buffer)
    assert bytes(buffer) == OPEN + b"1\n"


def test_a_batch_without_particulars_is_of_the_first_lane_and_epoch() -> None:
    """What is made without saying where it belongs belongs to the beginning."""
    it = batch([{"n": 1}])
    assert (it.endpoint, it.partition, it.epoch, it.order) == (Endpoint.BATCH, 0, 0, 0)
    it = Batch.ping()
    assert (it.endpoint, it.partition, it.epoch, it.order) == (Endpoint.PING, 0, 0, 0)
