"""Waiting for messages over HTTP and from Python."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.sandbox.control.matching import Pattern
from salesmachine_async.sandbox.messages import ParsedMessage
from salesmachine_async.sandbox.storage.message_log import MessageLog
from tests.sandbox.conftest import TOKEN, Client


async def test_what_is_there_counts(client: Client, sandbox: Sandbox) -> None:
    """A message that has already arrived is found at once, from Python and over HTTP."""
    await client.track("1", "order", plan="pro", n=9)
    match = {"event_uid": "order", "params.plan": "pro"}
    answer = await client.post("/_sandbox/wait", {"match": match})
    assert answer.status == 200
    waited = answer.body
    (item,) = waited["items"]
    assert item == {
        "number": 1,
        "workspace": item["workspace"],
        "method": "event",
        "contact_uid": "1",
        "params": {"plan": "pro", "n": 9},
        "event_uid": "order",
        "message_id": None,
        "created_at": item["created_at"],
        "received_at": item["received_at"],
    }
    assert waited == {"ok": True, "wanted": 1, "found": 1, "items": [item], "next": 1, "nearest": []}
    assert await sandbox.wait(match) == waited


async def test_what_comes_is_waited_for(client: Client, sandbox: Sandbox) -> None:
    """The response is sent with the message that completes it, and other requests are served in the meantime."""
    task = asyncio.create_task(sandbox.wait({"method": "contact"}, count=2, timeout=30))
    poll = asyncio.create_task(
        client.post("/_sandbox/wait", {"match": {"method": "contact"}, "count": 2, "timeout": 30})
    )
    await client.contact("1")
    assert not task.done()
    await client.contact("2")
    assert [each["contact_uid"] for each in (await task)["items"]] == ["1", "2"]
    assert (await poll).body["items"] == (await task)["items"]


async def test_every_kind_of_message(client: Client, sandbox: Sandbox) -> None:
    """Contacts, accounts, aliases and events can be awaited."""
    await client.contact("1", email="a@b.c")
    await client.account("9", name="Tesla")
    await client.alias("1", "2")
    await client.post("/v1/batch", [{"method": "event", "contact_uid": "1", "event_uid": "x", "messageId": "m"}])
    for match in (
        {"method": "contact", "contact_uid": "1", "params": {"email": "a@b.c"}},
        {"account_uid": "9", "params.name": "Tesla"},
        {"method": "alias", "alias": "2"},
        {"message_id": "m"},
        {},
    ):
        assert (await sandbox.wait(match, timeout=0))["found"] == 1


async def test_nearest_misses(client: Client, sandbox: Sandbox) -> None:
    """A timeout reports the matches so far and the nearest misses."""
    await client.track("1", "order", plan="free")
    await client.track("2", "login")
    await client.track("1", "order")
    match = {"contact_uid": "1", "event_uid": "order", "params": {"plan": "pro"}}
    answer = await client.post("/_sandbox/wait", {"match": match, "timeout": 0})
    assert answer.status == 408
    assert (answer.body["ok"], answer.body["found"], answer.body["wanted"]) == (False, 0, 1)
    assert [(each["item"]["number"], each["differences"]) for each in answer.body["nearest"]] == [
        (3, [{"path": "params.plan", "wanted": "pro"}]),
        (1, [{"path": "params.plan", "wanted": "pro", "found": "free"}]),
    ]
    with pytest.raises(TimeoutError) as caught:
        await sandbox.wait(match, timeout=0)
    assert str(caught.value).splitlines() == [
        "0 of 1 messages arrived within 0 s",
        "nearest: order of 1",
        "  params.plan: wanted 'pro', found missing",
        "nearest: order of 1",
        "  params.plan: wanted 'pro', found 'free'",
    ]


async def test_waiting_ends_in_time(client: Client) -> None:
    """A single check without a match is answered 408."""
    assert (await client.post("/_sandbox/wait", {"match": {"event_uid": "x"}, "timeout": 0.01})).status == 408


async def test_next_continues(client: Client, sandbox: Sandbox) -> None:
    """A later wait with `after` ignores messages that an earlier one has returned."""
    await client.track("1", "a")
    await client.track("1", "b")
    first = await sandbox.wait({"method": "event"})
    second = await sandbox.wait({"method": "event"}, after=first["next"])
    assert [each["items"][0]["event_uid"] for each in (first, second)] == ["a", "b"]
    with pytest.raises(TimeoutError):
        await sandbox.wait({"method": "event"}, after=second["next"], timeout=0)


async def test_each_workspace_waits_for_its_own(client: Client, sandbox: Sandbox) -> None:
    """A token limits the messages to its workspace; duplicates and rejected messages do not count."""
    await client.of("other").track("1", "x")
    with pytest.raises(TimeoutError):
        await sandbox.wait({"event_uid": "x"}, token=TOKEN, timeout=0)
    item = {"method": "event", "contact_uid": "1", "event_uid": "y", "messageId": "m"}
    await client.post("/v1/batch", [item, item])
    await client.post("/v1/batch", [item, {}])
    with pytest.raises(TimeoutError, match="1 of 2"):
        await sandbox.wait({"event_uid": "y"}, count=2, timeout=0)


async def test_a_long_history_is_searched_in_turns(client: Client, sandbox: Sandbox) -> None:
    """A search through thousands of messages yields to other tasks."""
    batch = [{"method": "event", "contact_uid": "1", "event_uid": str(n)} for n in range(1500)]
    await client.post("/v1/batch", batch)
    assert (await sandbox.wait({"event_uid": "1499"}, timeout=0))["next"] == 1500
    with pytest.raises(TimeoutError):
        await sandbox.wait({"event_uid": "1499", "contact_uid": "2"}, timeout=0)


async def test_from_another_loop(client: Client, sandbox: Sandbox) -> None:
    """A thread with its own event loop can wait, too."""
    found: list[Any] = []
    started = threading.Event()

    async def wait() -> None:
        task = asyncio.create_task(sandbox.wait({"event_uid": "x"}, timeout=30))
        await asyncio.sleep(0)
        started.set()
        found.append(await task)

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    await asyncio.to_thread(started.wait)
    await client.track("1", "x")
    await asyncio.to_thread(thread.join)
    assert found[0]["ok"]


async def test_stopping_ends_waiting(session: Any) -> None:
    """Stopping the server ends all waiting."""
    async with Sandbox() as sandbox:
        task = asyncio.create_task(sandbox.wait({"event_uid": "x"}, timeout=600))
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await task


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"match": []},
        {"match": {}, "count": 0},
        {"match": {}, "count": True},
        {"match": {}, "timeout": -1},
        {"match": {}, "timeout": "1"},
        {"match": {}, "timeout": 601},
        {"match": {}, "after": -1},
        {"match": {}, "seconds": 1},
    ],
)
async def test_bad_requests(client: Client, body: Any) -> None:
    """Invalid arguments are answered 400."""
    assert (await client.post("/_sandbox/wait", body)).status == 400


@pytest.mark.parametrize(
    ("wanted", "item", "fits"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": None}, {}, False),
        ({"a": None}, {"a": None}, True),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, True),
        ({"a.b.c": 1}, {"a": {"b.c": 1}}, True),
        ({"a.b.c": 1}, {"a.b": {"c": 1}}, True),
        ({"a.b.c": 1}, {"a": {}, "a.b": {"c": 1}}, True),
        ({"a": {"b": {}}}, {"a": {"b": {}}}, True),
        ({"a": {"b": {}}}, {"a": {"b": {"c": 1}}}, False),
        ({"a": [1, {"x": 2}]}, {"a": [1, {"x": 2}]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": [True]}, {"a": [1]}, False),
        ({"a": [{"x": 1}]}, {"a": [{"y": 1}]}, False),
        ({"a.b": 1}, {"a": 7}, False),
    ],
)
def test_patterns(wanted: Any, item: Any, fits: bool) -> None:
    """A pattern is partial in objects, exact in arrays, and compares as JSON does."""
    assert Pattern(wanted).fits(item) is fits
    assert (Pattern(wanted).differences(item) == []) is fits


def test_a_path_with_many_dots() -> None:
    """The time of a look-up is at most proportional to the keys of the message, however they are combined."""

    def tree(parts: int) -> dict[str, Any]:
        return {"a": tree(parts - 1), "a.a": tree(parts - 2)} if parts > 0 else {}

    class Counted(dict[str, Any]):
        steps = 0

        def __contains__(self, key: object) -> bool:
            Counted.steps += 1
            return super().__contains__(key)

        def items(self) -> Any:
            Counted.steps += len(self)
            return super().items()

    def counted(item: Any) -> Any:
        return Counted({key: counted(each) for key, each in item.items()})

    def keys(item: Any) -> int:
        return sum(1 + keys(each) for each in item.values())

    item = counted(tree(12))
    count = keys(item)
    Counted.steps = 0
    assert not Pattern({".".join("a" * 480): 1}).fits(item)
    assert Counted.steps <= 3 * count + 10
    nested = {"a": {"b.a": {"b": {"c": 1}}}}
    assert Pattern({"a.b.a.b.c": 1}).fits(nested)
    assert not Pattern({"a.b.a.b.c.d": 1}).fits(nested)


def test_a_pattern_is_bounded_before_its_paths_are_made() -> None:
    """Many values below a long key are found at the first of them, and a deep one at its first long path."""
    seen: list[int] = []

    class Many(dict[str, int]):
        def items(self) -> Any:
            for number in range(10):
                seen.append(number)
                yield str(number), number

    with pytest.raises(ValueError, match="at most 5 values, with paths of at most 20 characters"):
        Pattern({"a" * 30: Many(a=1)}, most_values=5, most_characters=20)
    assert seen == []
    with pytest.raises(ValueError, match="at most 5 values"):
        Pattern({"a": Many(a=1)}, most_values=5, most_characters=20)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_the_history_is_bounded() -> None:
    """The latest messages are kept, in whole requests."""
    message_log = MessageLog(3)
    for n in range(5):
        message_log.add("w", 0, [ParsedMessage("contact", str(n), "", "", {}, "{}", None, None)] * 2)
    message_log.add("w", 0, [])
    assert message_log.last == 10
    assert [arrival.first for arrival in message_log._kept] == [7, 9]
