"""
What does a call cost with `scrub` or `sample` as `before_send`?

    python -m benchmarks.scrub_cost [--quick] [--json]

The same calls of agents with and without a `before_send`, block by block in turn in one process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

from benchmarks._cli import Options, main
from benchmarks._measure import KEEP_HEAP, block_of_tracks, require, warm_heap
from benchmarks._messages import EVENT, LARGE, SMALL, contact_uids
from benchmarks._result import Result, Table
from benchmarks._worker import Worker

QUESTION: Final = "what does a call cost with scrub or sample as before_send?"
METHOD: Final = (
    "Blocks of 500 calls from the event loop of each agent in turn, in one process, by the CPU time of the calling "
    "thread; the ratio is the median of the ratios of neighbouring blocks. Any before_send takes the message out of "
    "the fast way: its arguments are checked and copied one by one, the hook sees a dict, and what it returns is "
    "checked again; the row with a hook that changes nothing shows that alone. The messages are those of track_cost, "
    "with an e-mail address and a password in the nested object."
)
BLOCK: Final = 500
WITHOUT: Final = "without before_send"
BYTES: Final = 2200
PERSONAL: Final = {"email": "elon@teslamotors.com", "login": {"password": "secret", "device": "phone"}}
PARAMS: Final[dict[str, dict[str, Any]]] = {"small": {**SMALL, **PERSONAL}, "2 KB": {**LARGE, **PERSONAL}}


def scrub_round(params: str, messages: int) -> dict[str, list[float]]:
    """In the agents' process: time one round; nanoseconds per call of each block, by the name of the agent."""
    return asyncio.run(_scrub_round(PARAMS[params], messages))


async def _scrub_round(params: dict[str, Any], messages: int) -> dict[str, list[float]]:
    from benchmarks._agents import CountingCarrier  # the agent is imported in its own process only
    from salesmachine_async import Agent, sample, scrub

    hooks: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None] | None] = {
        WITHOUT: None,
        "a hook that changes nothing": lambda message: message,
        "scrub(two keys)": scrub("email", "login.password"),
        "scrub(one key, one pattern)": scrub("email", "*.password"),
        "scrub(ten patterns)": scrub(*(f"*.{name}*" for name in "abcdefghi"), "*.password"),
        "sample(1.0)": sample(1.0),
    }
    warm_heap(2 * len(hooks) * messages * BYTES)
    agents = {
        name: Agent("token", "secret", transport=CountingCarrier(), before_send=hook) for name, hook in hooks.items()
    }
    timed: dict[str, list[float]] = {name: [] for name in agents}
    for agent in agents.values():
        await agent.start()
    uids = contact_uids(BLOCK)
    for _ in range(messages // BLOCK):
        for name, agent in agents.items():
            timed[name].append(block_of_tracks(agent.track, uids, EVENT, params) / BLOCK)
        await asyncio.sleep(0)
    for name, agent in agents.items():
        report = await agent.aclose(30.0)
        require(name, "messages delivered", BLOCK * len(timed[name]), report.delivered)
    return timed


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("scrub_cost", QUESTION, METHOD)
    messages, rounds = max(BLOCK, options.count(10_000, 2000)), options.pick(5, 2)
    rows: list[Sequence[str | float | None]] = []
    for params in PARAMS:
        timed: dict[str, list[float]] = {}
        for seed in range(1, rounds + 1):
            with Worker("salesmachine-async", seed, KEEP_HEAP) as worker:
                heard: dict[str, list[float]] = worker.call("scrub_cost:scrub_round", params=params, messages=messages)
            for name, blocks in heard.items():
                timed.setdefault(name, []).extend(blocks)
        plain = timed[WITHOUT]
        for name, blocks in timed.items():
            cost = median(blocks)
            ratio = median(block / other for block, other in zip(blocks, plain, strict=True))
            rows.append([f"{params}: {name}", cost, cost - median(plain), ratio])
            result.data.setdefault("ns", {})[f"{params}: {name}"] = cost
    columns = ["agent", "ns per call", "more than without, ns", "times without"]
    result.tables.append(Table("track(), from the loop", columns, rows))
    result.notes.append(f"{messages:,} messages of each agent a round, {rounds} rounds.")
    return result


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
