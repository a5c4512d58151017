"""The simulated visitors."""

import asyncio
import itertools
import json
import random
import sys
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from salesmachine_async.cli.demo.shop import Shop
from salesmachine_async.cli.demo.visitors import Crowd, Order, walk
from tests.support.cli_process import environment


def test_walks_are_reproducible() -> None:
    """The same seed makes the same requests, another one makes others."""
    one, same, other = (list(walk(random.Random(seed), 7)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_walks_visit_everything() -> None:
    """Some visitors sign up with an email, and some buy."""
    steps = [step for number in range(200) for step in walk(random.Random(number), number)]
    assert {step.path.partition("?")[0].split("/")[1] for step in steps} == {
        "", "products", "cart", "signup", "checkout", "thanks",
    }  # fmt: skip
    emails = [step.form["email"] for step in steps if step.form and "email" in step.form]
    assert len(emails) == len(set(emails)) > 10


async def visit(url: str, seconds: float) -> tuple[list[int], int]:
    reports: list[dict[str, Any]] = []
    await Crowd(Order(url=url, seconds=seconds, seed=1), itertools.count(1), reports.append).visit()
    return [each for report in reports for each in report["microseconds"]], sum(report["failed"] for report in reports)


async def test_all_requests_of_all_visitors_are_measured() -> None:
    """Every request the shop serves is measured once, and none fails."""
    served = 0

    @web.middleware
    async def count(request: web.Request, handler: Any) -> web.StreamResponse:
        nonlocal served
        served += 1
        response: web.StreamResponse = await handler(request)
        return response

    app = Shop().app()
    app.middlewares.append(count)
    async with TestServer(app) as server:
        microseconds, failed = await visit(str(server.make_url("/")), 0.3)
    assert failed == 0
    assert len(microseconds) == served > 0
    assert min(microseconds) > 0


async def test_wrong_answers_are_failures() -> None:
    """An error page is not a request served."""
    async with TestServer(web.Application()) as server:
        microseconds, failed = await visit(str(server.make_url("/")), 0.2)
    assert microseconds == []
    assert failed > 0


async def test_no_answer_is_a_failure() -> None:
    """A shop that is not reached is a failure."""
    microseconds, failed = await visit(f"http://127.0.0.1:{unused_port()}", 0.2)
    assert microseconds == []
    assert failed > 0


async def start() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "salesmachine_async.cli.demo.visitors")
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment())


@pytest.mark.slow
async def test_orders_are_carried_out_one_by_one() -> None:
    """The process reports the measurements and the end of each order, and ends with stdin."""
    process = await start()
    assert process.stdin is not None
    assert process.stdout is not None
    async with TestServer(Shop().app()) as server:
        for seed in (1, 2):
            order = {"url": str(server.make_url("/")), "seconds": 0.3, "seed": seed}
            process.stdin.write(json.dumps(order).encode() + b"\n")
            served = 0
            while "done" not in (report := json.loads(await process.stdout.readline())):
                served += len(report["microseconds"])
            assert served > 0
        out, _ = await process.communicate(b"")
        assert out == b""
    assert process.returncode == 0


@pytest.mark.slow
async def test_the_end_of_stdin_interrupts_an_order() -> None:
    """The end of stdin interrupts an order of an hour at once."""
    process = await start()
    assert process.stdout is not None
    order = {"url": f"http://127.0.0.1:{unused_port()}", "seconds": 3600, "seed": 1}
    await process.communicate(json.dumps(order).encode() + b"\n")
    assert process.returncode == 0
