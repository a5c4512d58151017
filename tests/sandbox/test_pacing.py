"""Long work leaves other requests their turn."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from salesmachine_async.sandbox import Sandbox, pacing
from tests.sandbox.conftest import TOKEN, Client


class Turns:
    count = 0


@contextmanager
def turns() -> Iterator[Turns]:
    """Count the iterations of the event loop."""
    counter = Turns()

    async def tick() -> None:
        while True:
            counter.count += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(tick())
    try:
        yield counter
    finally:
        task.cancel()


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """End each slice at once, so that each step is a turn, on a fast and on a slow machine."""
    monkeypatch.setattr(pacing, "SLICE_SECONDS", 0)


def lines(count: int, kind: str) -> list[dict[str, Any]]:
    if kind == "alias":
        return [{"method": "alias", "contact_uid": str(number), "alias": f"a{number}"} for number in range(count)]
    if kind == "archived":
        return [{"method": "contact", "contact_uid": str(number), "archived": True} for number in range(count)]
    return [{"method": kind, "contact_uid": str(number), "event_uid": "x"} for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "encoding"), [("event", "identity"), ("event", "gzip"), ("alias", "identity"), ("archived", "identity")]
)
async def test_a_replay_gives_turns(client: Client, kind: str, encoding: str) -> None:
    """A replay is applied in small parts, however cheap or expensive a line is, and however small the body."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines(2000, kind))
    body = gzip.compress(body) if encoding == "gzip" else body
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": encoding}
    with turns() as seen:
        answer = await client.call("POST", "/_sandbox/replay", data=body, headers=headers)
    assert (answer.status, answer.body["lines"]) == (200, 2000)
    assert seen.count > 2000 / 50


@pytest.mark.parametrize("kind", ["event", "contact"])
async def test_a_batch_gives_turns(client: Client, sandbox: Sandbox, kind: str) -> None:
    """A batch is validated, looked up and applied in steps; the result is visible as a whole or not at all."""
    body = json.dumps(lines(10_000, kind))
    visible: set[int] = set()

    async def watch() -> None:
        while True:
            visible.add(sandbox.summary()["contacts"])
            await asyncio.sleep(0)

    task = asyncio.create_task(watch())
    with turns() as seen:
        assert (await client.send("/v1/batch", body)).status == 201
    task.cancel()
    assert seen.count > 4 * 10_000 / pacing.STRIDE
    assert visible <= {0, 10_000}


@pytest.mark.slow
async def test_a_rejected_batch_gives_turns(client: Client) -> None:
    """Validation gives turns as well."""
    with turns() as seen:
        assert (await client.send("/v1/batch", json.dumps([*lines(10_000, "event"), 1]))).status == 400
    assert seen.count > 10_000 / pacing.STRIDE


async def test_batches_of_one_workspace_do_not_mix(client: Client, sandbox: Sandbox) -> None:
    """Requests that arrive during a large batch are applied after it, and none is lost."""
    large = client.send("/v1/batch", json.dumps(lines(5000, "contact")))
    small = [client.post("/v1/contact", {"contact_uid": "1", "params": {"n": n}}) for n in range(5)]
    answers = await asyncio.gather(large, *small)
    assert {answer.status for answer in answers} == {200, 201}
    assert sandbox.summary()["accepted"] == 5005
    assert "n" in sandbox.contact("1")["params"]


async def test_a_reset_during_a_batch(client: Client, sandbox: Sandbox) -> None:
    """A batch whose workspace is deleted in the middle is applied to the new one as a whole."""
    await client.contact("old")

    async def reset() -> None:
        while not sandbox.requests()[1:]:
            await asyncio.sleep(0)
            if sandbox.contacts(TOKEN):
                sandbox.reset(TOKEN)
                return

    await asyncio.gather(client.send("/v1/batch", json.dumps(lines(5000, "contact"))), reset())
    assert sandbox.summary(TOKEN)["contacts"] in (5000, 0)
    assert len(sandbox.contacts(TOKEN)) == sandbox.summary(TOKEN)["contacts"]


@pytest.mark.slow
@pytest.mark.parametrize("query", ["q=needle", "params.n=4999", "event_uid=rare"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_search_gives_turns(client: Client, sandbox: Sandbox, query: str, order: str) -> None:
    """A search for what is rare scans the events in windows."""
    events = [{"method": "event", "contact_uid": "1", "event_uid": "x", "params": {"n": n}} for n in range(20_000)]
    sandbox.replay((json.dumps(event) for event in events), TOKEN)
    with turns() as seen:
        found = await client.get(f"events?{query}&order={order}")
    assert [each["params"]["n"] for each in found["events"]] == ([4999] if "params" in query else [])
    assert seen.count > 10


async def test_a_comparison_gives_turns(client: Client) -> None:
    """The values of a pattern are compared one by one, so that many values and a large message are many steps."""
    params = {f"k{n}": n for n in range(500)}
    await client.post("/v1/contact", {"contact_uid": "1", "params": params})
    for wanted in (params, {**params, "k499": "x"}):
        with turns() as seen:
            answer = await client.post("/_sandbox/wait", {"match": {"params": wanted}, "timeout": 0})
        assert answer.status == (200 if wanted == params else 408)
        assert seen.count > 500


async def test_a_filter_gives_turns_within_a_window(client: Client, sandbox: Sandbox) -> None:
    """A condition is applied to a few rows at a time, because each row may be large."""
    events = [{"method": "event", "contact_uid": "1", "event_uid": "x", "params": {"n": n}} for n in range(1000)]
    sandbox.replay((json.dumps(event) for event in events), TOKEN)
    with turns() as seen:
        assert (await client.get("events?q=needle"))["events"] == []
    assert seen.count > 50


@pytest.mark.slow
async def test_an_export_gives_turns(client: Client, sandbox: Sandbox) -> None:
    """An export is read in parts."""
    sandbox.replay((json.dumps(line) for line in lines(5000, "event")), TOKEN)
    with turns() as seen:
        async with client.session.get(f"{client.url}/_sandbox/export", headers=client.headers) as response:
            assert len((await response.read()).splitlines()) >= 5000
    assert seen.count > 5000 / 100


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/_sandbox/replay", "/v1/batch"])
@pytest.mark.parametrize("filler", [b"\n", b" ", b'{"method":"event","contact_uid":"1","event_uid":"e"}\n'])
async def test_what_is_unzipped_is_bounded(client: Client, path: str, filler: bytes) -> None:
    """A small body that grows when it is unzipped is answered 413, and is not unzipped in one run."""
    body = gzip.compress(filler * (30_000_000 // len(filler)))
    assert len(body) < 100_000
    media = "application/x-ndjson" if "replay" in path else "application/json"
    with turns() as seen:
        answer = await client.call("POST", path, data=body, headers={"Content-Type": media, "Content-Encoding": "gzip"})
    assert answer.status == 413
    assert seen.count > 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/_sandbox/wait", {"match": {f"k{n}": n for n in range(1001)}}, 400),
        ("/_sandbox/wait", {"match": {"a." * 600: 1}}, 400),
        ("/_sandbox/wait", {"match": {"a" * 100_000: {f"{n}": n for n in range(20_000)}}}, 400),
        ("/_sandbox/faults", [{}] * 1001, 400),
        ("/_sandbox/faults", [{"status": 503, "body": "x" * 2**20}], 413),
    ],
)
async def test_work_for_each_message_or_request_is_bounded(client: Client, path: str, body: Any, status: int) -> None:
    """A pattern or a script that would slow down everything after it is rejected."""
    data = io.BytesIO(json.dumps(body).encode())
    headers = {"Content-Type": "application/json"}
    answer = await client.call("PUT" if "faults" in path else "POST", path, data=data, headers=headers)
    assert answer.status == status


async def test_forms_have_few_fields(client: Client) -> None:
    """A form with thousands of fields is rejected before they are parsed; a compressed one as well."""
    form = "application/x-www-form-urlencoded"
    assert (await client.send("/v1/contact", "&".join(["a=b"] * 100_000), form)).status == 400
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
    assert (
        await client.send("/v1/contact", part * 1000 + b"--b--\r\n", "multipart/form-data; boundary=b")
    ).status == 400
    headers = {"Content-Type": form, "Content-Encoding": "gzip"}
    answer = await client.call("POST", "/v1/contact", data=gzip.compress(b"data=%7B%7D"), headers=headers)
    assert answer.status == 415
