"""
How fast does `salesmachine import` get rows from a file to confirmed delivery, and in how much memory?

    python -m benchmarks.import_rate [--quick] [--json]

The real command in a process of its own, into the sink; beside it the floor: the same file read line by line, each row
parsed with orjson, encoded again and posted by a bare aiohttp loop.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import orjson

from benchmarks._cli import Options, main
from benchmarks._floor import CREATED_AT
from benchmarks._measure import cpu_seconds, require
from benchmarks._messages import EVENT, numbered
from benchmarks._result import Bar, Result, Table
from benchmarks._sink import Sink
from benchmarks._worker import Worker, WorkerFailed

QUESTION: Final = "how many rows a second does an import deliver, and in how much memory?"
METHOD: Final = (
    "The command `salesmachine import`, as anybody would run it, in a process of its own, delivers a file to the sink, "
    "500 rows in a request, with its checkpoint written every second; the rate is the one it tells itself, from its "
    "first look at the server to the last answer; CPU time and peak memory (the most it ever held) are those of its "
    "process, the start of the interpreter included. The sink counts the different rows. The floor reads the same "
    "NDJSON line by line, parses each with orjson, encodes it, joins 500 and posts them one request after the other "
    "with a bare aiohttp session: no check, no mapping, no ids, no order, no retry, no checkpoint. Rounds take turns; "
    "the table has medians."
)
BATCH: Final = 500
# (label, form of the file, further options)
SHAPES: Final = (
    ("NDJSON, 1 sender", "ndjson", ()),
    ("NDJSON, 4 senders", "ndjson", ("--concurrency", "4")),
    ("CSV of contacts, 1 sender", "csv", ("--type", "contact", "--types", "seq=integer")),
)
SMALL: Final = 10_000


def write_file(folder: Path, form: str, rows: int) -> Path:
    """Write so many numbered rows."""
    path = folder / f"{rows}.{form}"
    if path.exists():
        return path
    with path.open("w", newline="") as file:
        if form == "csv":
            out = csv.writer(file)
            out.writerow(["contact_uid", "name", "email", "phone", "plan", "seq", "created_at"])
            for number in range(rows):
                name, email = f"Person, number {number}", f"person{number}@example.com"
                out.writerow([number, name, email, f"06{number:08}", "pro", number, CREATED_AT])
        else:
            for number in range(rows):
                uids = {"method": "event", "contact_uid": f"{number % 5000}", "event_uid": EVENT}
                file.write(orjson.dumps({**uids, "params": numbered(number), "created_at": CREATED_AT}).decode() + "\n")
    return path


def one_import(path: Path, options: Sequence[str], url: str) -> dict[str, float]:
    """Run the command to its end; returns rows a second, CPU seconds and peak bytes of its process."""
    command = [sys.executable, "-m", "salesmachine_async", "import", str(path), "--json", "--batch", str(BATCH)]
    environment = {**os.environ, "SALESMACHINE_API_URL": url, "SALESMACHINE_API_TOKEN": "token"}
    with tempfile.TemporaryFile() as measured:
        null = os.open(os.devnull, os.O_RDWR)
        streams = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, measured.fileno(), 1)]
        streams.append((os.POSIX_SPAWN_DUP2, null, 2))
        pid = os.posix_spawn(sys.executable, [*command, *options], environment, file_actions=streams)
        os.close(null)
        _, status, usage = os.wait4(pid, 0)
        measured.seek(0)
        text = measured.read()
    if status:
        raise WorkerFailed(f"salesmachine import ended with {os.waitstatus_to_exitcode(status)}\n{text.decode()}")
    answer: dict[str, Any] = json.loads(text)
    return {
        "rows": answer["delivered"],
        "rate": answer["delivered"] / answer["seconds"],
        "cpu_us": (usage.ru_utime + usage.ru_stime) / answer["delivered"] * 1e6,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def floor(path: str, url: str) -> dict[str, float]:
    """In a process of its own: deliver the rows of an NDJSON file with as little as possible."""
    started, cpu = time.perf_counter(), cpu_seconds()
    rows = asyncio.run(_floor(path, f"{url}/v1/batch"))
    return {"rate": rows / (time.perf_counter() - started), "cpu_us": (cpu_seconds() - cpu) / rows * 1e6}


async def _floor(path: str, url: str) -> int:
    rows = 0
    loads, dumps = orjson.loads, orjson.dumps
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        with Path(path).open("rb") as file:  # noqa: ASYNC230 (the floor does not care who waits)
            while True:
                buffer, count = bytearray(b"["), 0
                for line in file:
                    buffer += dumps(loads(line))
                    buffer += b","
                    count += 1
                    if count == BATCH:
                        break
                if not count:
                    return rows
                rows += count
                buffer[-1] = ord("]")
                async with session.post(url, data=bytes(buffer)) as response:
                    await response.read()


def ask(options: Options) -> Result:
    """Answer."""
    result = Result("import_rate", QUESTION, METHOD)
    rows, rounds = options.count(200_000, 20_000), options.pick(3, 1)
    large = options.messages or options.pick(1_000_000, 50_000)
    heard: dict[str, list[dict[str, float]]] = {"floor": [], **{label: [] for label, _, _ in SHAPES}}
    with tempfile.TemporaryDirectory() as folder, Sink() as sink:
        for seed in range(1, rounds + 1):
            path = write_file(Path(folder), "ndjson", rows)
            with Worker("floor", seed) as worker:
                sink.reset()
                heard["floor"].append(worker.call("import_rate:floor", path=str(path), url=sink.url))
                _check("floor", rows, sink)
            for label, form, extra in SHAPES:
                heard[label].append(_import(label, write_file(Path(folder), form, rows), extra, rows, sink))
        sizes = [
            (size, _import(f"{size:,} rows", write_file(Path(folder), "ndjson", size), (), size, sink))
            for size in dict.fromkeys((min(SMALL, large), large))
        ]
    measured = {label: {key: median(one[key] for one in some) for key in some[0]} for label, some in heard.items()}
    result.tables += _tables(rows, measured, sizes)
    share = measured["NDJSON, 1 sender"]["rate"] / measured["floor"]["rate"]
    more = sizes[-1][1]["peak_mb"] - sizes[0][1]["peak_mb"]
    result.bars += [
        Bar("share of the floor, NDJSON, 1 sender", share, 0.15, at_most=False),
        Bar(f"MB more at {large:,} rows than at {SMALL:,}", more, 32),
    ]
    result.data.update({"rows": rows, "measured": measured, "sizes": {str(size): figures for size, figures in sizes}})
    return result


def _import(label: str, path: Path, extra: Sequence[str], rows: int, sink: Sink) -> dict[str, float]:
    sink.reset()
    figures = one_import(path, extra, sink.url)
    require(label, "rows the command calls delivered", rows, int(figures["rows"]))
    _check(label, rows, sink)
    return figures


def _check(label: str, rows: int, sink: Sink) -> None:
    tally = sink.tally()
    require(label, "different rows in the sink", rows, tally["unique"])
    require(label, "rows in the sink", rows, tally["messages"])


def _tables(rows: int, measured: dict[str, dict[str, float]], sizes: list[tuple[int, dict[str, float]]]) -> list[Table]:
    floor_rate = measured["floor"]["rate"]
    return [
        Table(
            f"Rates, files of {rows:,} rows",
            ["who", "rows/s", "of the floor", "CPU µs/row"],
            [[label, one["rate"], one["rate"] / floor_rate, one["cpu_us"]] for label, one in measured.items()],
        ),
        Table(
            "Memory, NDJSON, 1 sender",
            ["rows", "rows/s", "peak MB"],
            [[f"{size:,}", one["rate"], one["peak_mb"]] for size, one in sizes],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(ask, QUESTION))
