"""Messages that always fail without being rejected: found, deferred, and lost only on evidence. On virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from salesmachine_async import (
    Agent,
    Batch,
    Batching,
    ConnectionFailed,
    Endpoint,
    Loss,
    LossReason,
    Outcome,
    Report,
    RequestTimeout,
    Retry,
)
from tests.support.carriers import Carrier, answer
from tests.support.core import uid_for
from tests.support.virtual import run

SHORT = Retry(wait_initial=0.01, wait_max=0.05)
RESET = Outcome.failed(ConnectionFailed("reset on purpose"))
TIMED_OUT = Outcome.failed(RequestTimeout("no answer in time"))

Contact = Callable[[int], str]


def one_contact(_: int) -> str:
    return "u"


def a_contact_each(number: int) -> str:
    return f"u{number}"


def a_few_contacts(number: int) -> str:
    return f"u{number % 7}"


def poisoned(numbers: Collection[int], outcome: Outcome) -> Callable[[Batch], Outcome | None]:
    """A server that fails whenever one of these messages is in the request."""
    names = {str(number) for number in numbers}

    def decide(batch: Batch) -> Outcome | None:
        events = {message.get("event_uid", message.get("alias")) for message in batch.messages()}
        return outcome if events & names else None

    return decide


class Play:
    """Tracks numbered events, lets an agent deliver them, and keeps what happened."""

    def __init__(
        self,
        count: int,
        decide: Callable[[Batch], Outcome | None],
        *,
        contact: Contact = a_contact_each,
        aliases: Collection[int] = (),
        **options: Any,
    ) -> None:
        self.count = count
        self.contact = contact
        self.aliases = aliases
        self.carrier = Carrier(decide=decide, takes=0.001)
        self.losses: list[Loss] = []
        self.options = options
        self.seconds = 0.0

    def run(self, *, seconds: float | None = None) -> Report:
        """Deliver until all have their outcome, or for so many seconds."""
        return run(self._main(seconds))

    async def _main(self, seconds: float | None) -> Report:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=self.carrier, on_lost=self.losses.append, **self.options)
        for number in range(self.count):
            if number in self.aliases:
                agent.alias(self.contact(number), str(number))
            else:
                agent.track(self.contact(number), str(number))
        await agent.start()
        start = loop.time()
        if seconds is None:
            report = await agent.flush()
        else:
            await asyncio.sleep(seconds)
            report = await agent.flush(timeout=0.001)
        self.seconds = loop.time() - start
        stats = agent.stats()
        assert stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight
        self.lost = [int(name_of(message)) for loss in self.losses for message in loss.messages]
        assert {loss.reason for loss in self.losses} <= {LossReason.REJECTED}
        await agent.aclose(timeout=0)
        return report

    @property
    def delivered(self) -> list[int]:
        return [int(name_of(message)) for message in self.carrier.delivered]

    def in_order(self, of: Contact | None = None) -> bool:
        """Return whether messages arrived in order: of each contact, or all of them."""
        last: dict[str, int] = {}
        for number in self.delivered:
            key = of(number) if of is not None else ""
            if last.get(key, -1) >= number:
                return False
            last[key] = number
        return True


def name_of(message: dict[str, Any]) -> str:
    return str(message.get("event_uid", message.get("alias")))


@pytest.mark.slow
@pytest.mark.parametrize("retry", [Retry(), SHORT])
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("contact", [one_contact, a_few_contacts, a_contact_each])
@pytest.mark.parametrize("guilty", [0, 1, 950, 1999])
def test_one_message_that_always_fails_is_lost_alone(
    retry: Retry, concurrency: int, contact: Contact, guilty: int
) -> None:
    """The other 1,999 messages are delivered once each, in the order of each contact, wherever it is."""
    if contact is one_contact and guilty == 0:
        return  # see the next test
    play = Play(2000, poisoned([guilty], answer(500)), contact=contact, retry=retry, concurrency=concurrency)
    report = play.run()
    assert (report.delivered, report.lost) == (1999, {LossReason.REJECTED: 1})
    assert play.lost == [guilty]
    assert sorted(play.delivered) == [number for number in range(2000) if number != guilty]
    assert play.in_order(contact)
    assert str(play.losses[0].error) == "the server answered 500"
    assert play.seconds < 30 * retry.wait_max + 10


@pytest.mark.parametrize("guilty", [0, 100])
def test_the_first_message_of_the_only_contact_waits_on(guilty: int) -> None:
    """The first message of the only contact cannot be deferred, and its failure looks like an outage."""
    play = Play(200, poisoned([guilty], answer(500)), contact=one_contact)
    report = play.run(seconds=3600)
    assert (report.delivered, report.lost, report.pending) == (guilty, {}, 200 - guilty)


def test_no_message_is_sent_first_where_another_partition_delivers() -> None:
    """Deliveries of another partition are evidence enough, so no message is sent before the failing one."""
    carrier = Carrier(decide=poisoned([0], answer(500)))
    first, second = (uid_for(index, 2) for index in (0, 1))

    async def main() -> None:
        async with Agent(transport=carrier, retry=SHORT, concurrency=2) as agent:
            for number in range(3):
                agent.track(first, str(number))
            flush = asyncio.ensure_future(agent.flush())
            while not flush.done():
                agent.track(second, "other")
                await asyncio.sleep(0.02)
            assert flush.result().lost == {LossReason.REJECTED: 1}

    run(main())
    assert [name for name in carrier.events() if name != "other"] == ["1", "2"]


@pytest.mark.parametrize("contact", [one_contact, a_few_contacts, a_contact_each])
@pytest.mark.parametrize("guilty", [(0, 1), (0, 99), (0, 199), (1, 2), (98, 99), (99, 100), (198, 199), (20, 120)])
def test_two_messages_that_always_fail_are_lost(contact: Contact, guilty: tuple[int, int]) -> None:
    """Two messages are lost alone, also side by side, at the beginning and at the end."""
    if contact is one_contact and (0 in guilty or 100 in guilty):
        return  # the first of a batch of the only contact waits on
    play = Play(200, poisoned(guilty, answer(500)), contact=contact)
    report = play.run()
    assert sorted(play.lost) == list(guilty)
    assert report.delivered == 198
    assert play.in_order(contact)


@pytest.mark.parametrize("first", [0, 50, 150, 180])
def test_a_run_of_messages_that_always_fail_is_lost(first: int) -> None:
    """Twenty, one behind the other."""
    guilty = range(first, first + 20)
    play = Play(200, poisoned(guilty, answer(500)))
    assert play.run().delivered == 180
    assert sorted(play.lost) == list(guilty)


@pytest.mark.parametrize("outcome", [RESET, TIMED_OUT, answer(502), answer(503), answer(504), answer(408), answer(599)])
def test_however_a_message_fails(outcome: Outcome) -> None:
    """A message may fail by any answer, by none, by a time-out or by a broken connection."""
    play = Play(200, poisoned([42], outcome), contact=a_few_contacts)
    assert play.run().delivered == 199
    assert play.lost == [42]
    assert play.in_order(a_few_contacts)


@pytest.mark.parametrize("guilty", [0, 50, 98])
def test_an_alias_that_always_fails_is_lost(guilty: int) -> None:
    """Batches that pass are evidence against it."""
    play = Play(100, poisoned([guilty], answer(500)), contact=a_few_contacts, aliases=[guilty])
    assert play.run().delivered == 99
    assert play.lost == [guilty]
    assert play.in_order(a_few_contacts)


def test_among_aliases_another_alias_is_evidence() -> None:
    """An agent may send nothing else."""
    play = Play(20, poisoned([0], answer(500)), aliases=range(20))
    assert play.run().delivered == 19
    assert play.lost == [0]


def test_aliases_that_pass_are_no_evidence_against_a_batch() -> None:
    """The endpoint of batches may be down while the one of aliases works."""
    play = Play(
        60,
        lambda batch: answer(500) if batch.endpoint is Endpoint.BATCH else None,
        aliases=range(0, 60, 2),
        concurrency=4,
    )
    play.run(seconds=10_000)
    assert play.lost == []


@pytest.mark.slow
@pytest.mark.parametrize("contact", [one_contact, a_few_contacts, a_contact_each])
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("outcome", [answer(500), TIMED_OUT])
def test_nothing_is_given_up_while_nothing_passes(contact: Contact, concurrency: int, outcome: Outcome) -> None:
    """After an hour without any success everything is delivered; a flush with a timeout ends in time."""
    down = True
    carrier = Carrier(decide=lambda batch: outcome if down else None, takes=0.001)
    play = Play(1000, lambda batch: None)
    play.carrier = carrier

    async def main() -> None:
        nonlocal down
        async with Agent(transport=carrier, concurrency=concurrency) as agent:
            for number in range(1000):
                agent.track(contact(number), str(number))
            await asyncio.sleep(3600)
            assert (await agent.flush(timeout=60)).pending == 1000
            stats = agent.stats()
            assert (stats.delivered, stats.lost) == (0, {})
            assert stats.requests < concurrency * (3600 / 10 + 60 / 0.5 + 1)
            down = False
            assert (await agent.flush()).delivered == 1000
            # Each full wait halves a batch or cuts out a message, so many smaller requests are made at first.
            assert agent.stats().requests - stats.requests < 300 * concurrency

    run(main())
    assert play.in_order(contact)


@pytest.mark.slow
@pytest.mark.parametrize("contact", [a_few_contacts, a_contact_each])
@pytest.mark.parametrize("passes", range(1, 10))
def test_an_outage_with_a_gap_loses_nothing(contact: Contact, passes: int) -> None:
    """A single request that passes in the middle of an outage is no evidence against all that fails after it."""
    requests = 0

    def decide(_: Batch) -> Outcome | None:
        nonlocal requests
        requests += 1
        return None if requests == 10 + passes else answer(500)

    play = Play(1000, decide, contact=contact)
    report = play.run(seconds=3000)
    assert report.lost == {}
    assert report.delivered >= 1


def test_three_failures_count_a_full_wait_apart() -> None:
    """The message that is lost has failed alone over two full waits at least."""
    play = Play(100, poisoned([0], answer(500)), retry=Retry(wait_initial=1, wait_max=20))
    play.run()
    alone = [time for time, _, messages in play.carrier.attempts if [name_of(m) for m in messages] == ["0"]]
    assert len(alone) >= 3
    assert alone[-1] - alone[0] >= 40
    assert all(later - earlier >= 19.98 for earlier, later in pairwise(alone))


@pytest.mark.slow
def test_a_new_message_may_come_while_one_fails() -> None:
    """Evidence may come from what is tracked later, though its batch is still open."""
    carrier = Carrier(decide=poisoned([0], answer(500)))

    async def main() -> None:
        async with Agent(transport=carrier, retry=SHORT, batching=Batching(linger=1000)) as agent:
            agent.track("u", "0")
            await asyncio.sleep(2000)
            assert agent.stats().lost == {}
            agent.track("v", "1")
            agent.track("w", "2")
            await asyncio.sleep(10)
            assert agent.stats().lost == {LossReason.REJECTED: 1}
            assert agent.stats().delivered == 2

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_lives_keep_the_order_of_each_contact(seed: int) -> None:
    """Guilty messages, outages, aliases, late calls, cancelled senders: each is delivered or lost once, in order."""
    random = Random(seed)
    contacts, count = random.choice([2, 3, 7, 40]), random.choice([10, 60, 300])
    guilty = {str(random.randrange(count)) for _ in range(random.choice([0, 1, 2, 5]))}
    down = False

    def decide(batch: Batch) -> Outcome | None:
        names = {name_of(message) for message in batch.messages()}
        return random.choice([answer(500), RESET, TIMED_OUT]) if down or names & guilty else None

    play = Play(count, decide)

    async def main() -> None:
        nonlocal down
        agent = Agent(
            transport=play.carrier,
            on_lost=play.losses.append,
            concurrency=random.choice([1, 1, 3]),
            batching=Batching(max_messages=random.choice([1, 5, 100])),
            retry=Retry(wait_initial=0.5, wait_max=4),
        )
        async with agent:
            for number in range(count):
                uid = f"u{random.randrange(contacts)}"
                owner[number] = uid
                agent.alias(uid, str(number)) if random.random() < 0.1 else agent.track(uid, str(number))
                if random.random() < 0.05:
                    # Too short for three failures alone, which would count against any message if nothing else waits.
                    down = random.random() < 0.3
                    await asyncio.sleep(random.random() * 7)
                    down = False
                    await asyncio.sleep(5 + random.random() * 10)
                if random.random() < 0.02:
                    for task in asyncio.all_tasks():
                        if task.get_name().startswith("salesmachine-sender"):
                            task.cancel()
            # What waits on behind a guilty message is reported, too.
            report = await agent.flush(timeout=1000)
            assert report.delivered == len(play.delivered)
            assert report.pending + report.delivered + sum(report.lost.values()) == count
            assert not report.pending or guilty
            await agent.aclose(timeout=0)

    owner: dict[int, str] = {}
    run(main())
    rejected = {
        name_of(message) for loss in play.losses if loss.reason is LossReason.REJECTED for message in loss.messages
    }
    assert rejected <= guilty
    assert len(set(play.delivered)) == len(play.delivered)
    assert play.in_order(owner.__getitem__)


@pytest.mark.parametrize("contact", [one_contact, a_contact_each])
def test_a_sender_that_is_cancelled_at_any_moment_keeps_the_order(contact: Contact) -> None:
    """A message that was deferred or brought forward is in its place again."""
    for moment in range(1, 60, 4):
        play = Play(30, poisoned([3], answer(500)), contact=contact, retry=SHORT)

        async def main(play: Play = play, moment: int = moment) -> None:
            async with Agent(transport=play.carrier, retry=SHORT, on_lost=play.losses.append) as agent:
                for number in range(30):
                    agent.track(contact(number), str(number))
                for _ in range(3):
                    await asyncio.sleep(moment * 0.0503)
                    for task in asyncio.all_tasks():
                        if task.get_name() == "salesmachine-sender-0":
                            task.cancel()
                report = await agent.flush()
                assert (report.delivered, report.pending) == (29, 0)

        run(main())
        assert sorted(set(play.delivered)) == [number for number in range(30) if number != 3]
        if contact is one_contact:
            assert list(dict.fromkeys(play.delivered)) == [number for number in range(30) if number != 3]
