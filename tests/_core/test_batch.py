"""What one request carries."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.message import OPTIONS
from salesmachine_async.report import Endpoint
from tests.support.core import strict_loads

HOSTILE = ["\n", "\r\n", "},{", "[", "]", '"', "\\", "\\n", "\u2028", "\x00", "}\n{", '"}],"', "é", "\U0001f600", ""]
hostile_text = st.lists(st.sampled_from(HOSTILE) | st.characters(codec="utf-8"), max_size=4).map("".join)
hostile_messages = st.lists(st.dictionaries(hostile_text, hostile_text, max_size=2), min_size=1, max_size=7)


def batch(messages: list[Any], **where: Any) -> Batch:
    """Make a batch the way the accumulator does: of encoded messages."""
    return Batch.of_lines([orjson.dumps(message, None, OPTIONS)[:-1] for message in messages], **where)


def test_endpoints_are_the_documented_paths() -> None:
    """Batches, aliases and pings go where the API documents say."""
    assert [each.value for each in Endpoint] == ["/v1/batch", "/v1/alias", "/v1/ping"]


def test_body_of_a_batch_is_one_json_array() -> None:
    """The messages stand in one bare array, in order, each on a line of its own."""
    assert batch([{"a": 1}, {"b": "x"}]).body() == b'[{"a":1},\n{"b":"x"}]'


def test_body_of_an_alias_is_one_json_object() -> None:
    """An alias is no batch: its body is the object itself."""
    alias = Batch.of_lines([AliasLine(b'{"contact_uid":"1","alias":"2"}')], partition=2, number=3)
    assert alias.body() == b'{"contact_uid":"1","alias":"2"}'
    assert alias.size == alias.body_size == len(alias.body())
    assert (alias.endpoint, alias.count, alias.partition, alias.number) == (Endpoint.ALIAS, 1, 2, 3)
    assert alias.messages() == [{"contact_uid": "1", "alias": "2"}]
    assert type(alias.body()) is bytes


def test_a_ping_has_no_body_and_no_messages() -> None:
    """A ping has an empty body and no messages."""
    ping = Batch.ping()
    assert (ping.body(), ping.body_size, ping.count, ping.messages(), ping.lines()) == (b"", 0, 0, [], [])
    assert ping.endpoint is Endpoint.PING


def test_a_fresh_batch_was_never_sent() -> None:
    """A new batch has no attempts and is neither searched nor suspected."""
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
    assert it.size == sum(map(len, it.lines()))
    assert it.body_size == len(it.body()) == it.size + 2 * len(messages)
    assert Batch.of_lines(it.lines()).body() == it.body()


@given(hostile_messages.filter(lambda messages: len(messages) > 1), st.data())
def test_a_batch_is_split_anywhere(messages: list[Any], data: st.DataObject) -> None:
    """Both parts are correct batches of the same place, and together they are the whole."""
    at = data.draw(st.integers(1, len(messages) - 1))
    older, newer = batch(messages, partition=3, number=4).split(at)
    assert strict_loads(older.body()) == messages[:at]
    assert strict_loads(newer.body()) == messages[at:]
    assert older.size + newer.size == batch(messages).size
    assert {(part.partition, part.number) for part in (older, newer)} == {(3, 4)}


@given(hostile_messages.filter(lambda messages: len(messages) > 1), st.booleans())
def test_halves_hold_the_same_messages_in_order(messages: list[Any], searching: bool) -> None:
    """Both halves hold something, the older one first and no larger; together they are the whole."""
    it = batch(messages)
    older, newer = it.search_halves() if searching else it.halves()
    assert strict_loads(older.body()) + strict_loads(newer.body()) == messages
    assert (older.count, newer.count) == (len(messages) // 2, len(messages) - len(messages) // 2)
    assert older.body_size == len(older.body())
    assert newer.body_size == len(newer.body())


def test_halves_inherit_where_they_belong_and_what_they_went_through() -> None:
    """Partition, number, attempts and the start of the failure are those of the whole."""
    whole = batch([{}, {}, {}], partition=1, number=3)
    whole.attempts, whole.failing_since, whole.lasting = 4, 5.0, True
    for half in whole.halves():
        assert half.lasting
        assert (half.partition, half.number, half.attempts, half.failing_since) == (1, 3, 4, 5.0)
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
    """A batch of one that was never part of another changes no suspicion."""
    alone = batch([{}])
    alone.found_guilty()
    assert not alone.suspected


@pytest.mark.parametrize(("count", "shown"), [(1, "1 messages, 16 bytes"), (2, "2 messages, 32 bytes")])
def test_repr_shows_no_payload(count: int, shown: str) -> None:
    """The repr tells what it is, how many and how large, and nothing of what it holds."""
    assert repr(batch([{"p": "SECRET"}] * count)) == f"<Batch /v1/batch | {shown}>"


def test_decoded_messages_are_made_anew() -> None:
    """Changing a decoded message changes nothing of the batch."""
    it = batch([{"a": [1]}])
    it.messages()[0]["a"].append(2)
    assert it.messages() == [{"a": [1]}]


def test_a_batch_is_of_the_first_partition_unless_another_is_named() -> None:
    """A batch made without a place belongs to partition 0 and has no number."""
    for it in (batch([{"n": 1}]), Batch.ping()):
        assert (it.partition, it.number) == (0, 0)


@pytest.mark.parametrize("endpoint", [Endpoint.BATCH, Endpoint.ALIAS])
def test_what_cannot_be_read_back_has_its_place_and_no_bytes(endpoint: Endpoint) -> None:
    """It is counted where the messages were, and takes no room."""
    whole = Batch(b"", 5, endpoint=endpoint, partition=3, number=7)
    whole.first = 100
    gap = whole.missing(2, 3)
    assert (gap.endpoint, gap.partition, gap.number, gap.first, gap.count) == (endpoint, 3, 7, 102, 3)
    assert (gap.size, gap.spilled, gap.lines()) == (0, True, [])
