"""
The agent and its peers behind one face, each with the settings that suit it best.

Peers are imported only in the process that measures them, and only if they are installed.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final

from benchmarks._floor import message
from benchmarks._machine import version

# A queue that never refuses: what is measured is speed, not the bound.
ROOMY: Final = 2_000_000
# Where no server is.
NO_SERVER: Final = "http://127.0.0.1:9"


class Contestant(ABC):
    """
    One client of one service.

    Attributes:
        distribution: What to install.
        settings: How it is set up here, in words.
        asynchronous: Whether it delivers on the event loop (else in threads of its own, or in the call).
        track: The call that is measured: contact (user), event, params.
    """

    distribution: ClassVar[str]
    settings: ClassVar[str]
    asynchronous: ClassVar[bool] = False
    track: Callable[[str, str, dict[str, Any]], object]

    @abstractmethod
    def open(self, url: str | None, batch: int = 100) -> None:
        """Make a client that delivers to *url*; None: it keeps or drops, without any delivery."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until everything tracked is delivered."""

    @abstractmethod
    async def close(self) -> None:
        """End the client; undelivered messages may be lost."""


class SalesmachineAsync(Contestant):
    """This product."""

    distribution = "salesmachine-async"
    settings = "defaults, but for a queue that never refuses"
    asynchronous = True

    def open(
        self,
        url: str | None,
        batch: int = 100,
        concurrency: int = 1,
        *,
        default_queue: bool = False,
        retry_cap: float = 30.0,
        close_timeout: float = 10.0,
    ) -> None:
        package = importlib.import_module("salesmachine_async")
        self._idle = url is None
        limits = {} if default_queue else {"max_messages": ROOMY, "max_bytes": 2**31}
        self.agent = package.Agent(
            "token",
            "secret",
            base_url=url or NO_SERVER,
            concurrency=concurrency,
            batching=package.Batching(max_messages=batch),
            queue=package.QueueLimits(**limits),
            retry=package.Retry(wait_max=retry_cap),
            timeouts=package.Timeouts(close=close_timeout),
        )
        self.track = self.agent.track

    async def flush(self) -> None:
        await self.agent.flush()

    async def close(self) -> None:
        await self.agent.aclose(0.0 if self._idle else None)


class SalesmachinePython(Contestant):
    """The product's ancestor: a queue and one thread."""

    distribution = "salesmachine-python"
    settings = "one thread, its fixed batches of 100"

    def open(self, url: str | None, batch: int = 100) -> None:
        client = importlib.import_module("salesmachine.client")
        self._client = client.Client("key", "secret", url=f"{url}/v1/batch", max_queue_size=ROOMY, send=bool(url))
        self._client.consumer.upload_size = batch
        self.track = self._client.track_event

    async def flush(self) -> None:
        await asyncio.to_thread(self._client.flush)

    async def close(self) -> None:
        self._client.consumer.pause()


class AsyncPosthog(Contestant):
    """PostHog's asyncio client."""

    distribution = "posthog"
    settings = "AsyncPosthog, one worker (more are slower), no gzip"
    asynchronous = True

    def open(self, url: str | None, batch: int = 100) -> None:
        posthog = importlib.import_module("posthog")
        # It sends when the event loop turns: without a server that must not happen between the calls and the close.
        client = self._client = posthog.AsyncPosthog(
            "phc_key", host=url or NO_SERVER, flush_at=batch, max_queue_size=ROOMY
        )
        self._idle = url is None
        self.track = lambda uid, event, params: client.capture(event, distinct_id=uid, properties=params)

    async def flush(self) -> None:
        await self._client.flush(None)

    async def close(self) -> None:
        if not self._idle:
            await self._client.shutdown()


class Posthog(Contestant):
    """PostHog's client with threads."""

    distribution = "posthog"
    settings = "Posthog, one thread, no gzip"

    def open(self, url: str | None, batch: int = 100) -> None:
        posthog = importlib.import_module("posthog")
        client = self._client = posthog.Posthog(
            "phc_key",
            host=url or NO_SERVER,
            flush_at=batch,
            max_queue_size=ROOMY,
            send=bool(url),
            enable_local_evaluation=False,
        )
        self.track = lambda uid, event, params: client.capture(event, distinct_id=uid, properties=params)

    async def flush(self) -> None:
        await asyncio.to_thread(self._client.flush, None)

    async def close(self) -> None:
        # Without a thread to deliver it would wait for its queue in vain.
        if self._client.send:
            await asyncio.to_thread(self._client.shutdown)


class Segment(Contestant):
    """Segment's client."""

    distribution = "segment-analytics-python"
    settings = "one thread, no gzip"

    def open(self, url: str | None, batch: int = 100) -> None:
        module = importlib.import_module("segment.analytics.client")
        self._client = module.Client(
            "key", host=url or NO_SERVER, upload_size=batch, max_queue_size=ROOMY, send=bool(url)
        )
        self.track = self._client.track

    async def flush(self) -> None:
        await asyncio.to_thread(self._client.flush)

    async def close(self) -> None:
        for consumer in self._client.consumers:
            consumer.pause()


class Rudder(Segment):
    """RudderStack's client, a fork of Segment's."""

    distribution = "rudder-sdk-python"
    settings = "one thread, no gzip"

    def open(self, url: str | None, batch: int = 100) -> None:
        module = importlib.import_module("rudderstack.analytics.client")
        self._client = module.Client(
            "key", host=url or NO_SERVER, upload_size=batch, max_queue_size=ROOMY, send=bool(url), gzip=False
        )
        self.track = self._client.track


class Mixpanel(Contestant):
    """Mixpanel's BufferedConsumer, which sends in the call that fills a buffer."""

    distribution = "mixpanel"
    settings = "BufferedConsumer, its largest buffer (50); delivery happens in the call"

    def open(self, url: str | None, batch: int = 100) -> None:
        module = importlib.import_module("mixpanel")
        self._consumer = module.BufferedConsumer(max_size=batch, events_url=f"{url}/track")
        if url is None:
            # Past the limit that it sets itself, so that only the call is measured.
            self._consumer._max_size = ROOMY
        self.track = module.Mixpanel("token", consumer=self._consumer).track

    async def flush(self) -> None:
        await asyncio.to_thread(self._consumer.flush)

    async def close(self) -> None:
        pass


class Amplitude(Contestant):
    """Amplitude's client."""

    distribution = "amplitude-analytics"
    settings = "its thread pool, no log line per event"

    def open(self, url: str | None, batch: int = 100) -> None:
        module = importlib.import_module("amplitude")
        event_of = module.BaseEvent
        logger = logging.getLogger("benchmarks.amplitude")
        logger.setLevel(logging.CRITICAL)
        client = self._client = module.Amplitude(
            "key",
            module.Config(
                flush_queue_size=batch if url else ROOMY,
                flush_interval_millis=10_000 if url else 3_600_000,
                server_url=f"{url}/2/httpapi",
                logger=logger,
                callback=self._answered,
            ),
        )
        self._given = self._answers = 0

        def track(uid: str, event: str, params: dict[str, Any]) -> None:
            self._given += 1
            client.track(event_of(event, user_id=uid, event_properties=params))

        self.track = track

    def _answered(self, _event: object, _code: int, _message: object = None) -> None:
        self._answers += 1

    async def flush(self) -> None:
        # Its own flush returns before what it has handed to its threads is delivered.
        while self._answers < self._given:
            self._client.flush()
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        if self._answers >= self._given:
            await asyncio.to_thread(self._client.shutdown)


class Snowplow(Contestant):
    """Snowplow's tracker with its AsyncEmitter."""

    distribution = "snowplow-tracker"
    settings = "AsyncEmitter, one thread, one session, no base64"

    def open(self, url: str | None, batch: int = 100) -> None:
        emitters = importlib.import_module("snowplow_tracker.emitters")
        tracker_module = importlib.import_module("snowplow_tracker")
        json_of = tracker_module.SelfDescribingJson
        event_of = importlib.import_module("snowplow_tracker.events").SelfDescribing
        logging.disable(logging.INFO)  # its import turns on logging at INFO for the whole process
        emitter = self._emitter = emitters.AsyncEmitter(
            endpoint=url or NO_SERVER,
            batch_size=batch if url else ROOMY,
            buffer_capacity=ROOMY,
            session=importlib.import_module("requests").Session(),
        )
        tracker = tracker_module.Tracker(namespace="bench", emitters=emitter, app_id="bench", encode_base64=False)

        def track(uid: str, event: str, params: dict[str, Any]) -> None:
            subject = tracker_module.Subject()
            subject.set_user_id(uid)
            tracker.track(event_of(json_of(f"iglu:com.acme/{event}/jsonschema/1-0-0", params), event_subject=subject))

        self.track = track

    async def flush(self) -> None:
        await asyncio.to_thread(self._emitter.sync_flush)

    async def close(self) -> None:
        pass


class ConfluentKafka(Contestant):
    """librdkafka's producer: no broker is there, so it only keeps."""

    distribution = "confluent-kafka"
    settings = "produce(orjson.dumps(message)), no id minted, no clock read, no broker: it only keeps"

    def open(self, url: str | None, batch: int = 100) -> None:  # noqa: ARG002 (neither means anything here)
        producer = importlib.import_module("confluent_kafka").Producer(
            {"queue.buffering.max.messages": ROOMY, "queue.buffering.max.kbytes": 2**21 - 1, "log_level": 0}
        )
        dumps = importlib.import_module("orjson").dumps

        def track(uid: str, event: str, params: dict[str, Any]) -> None:
            producer.produce("events", dumps(message(uid, event, params)), uid)

        self._producer = producer
        self.track = track

    async def flush(self) -> None:
        raise NotImplementedError("there is no broker")

    async def close(self) -> None:
        self._producer.purge()
        self._producer.poll(0)


CONTESTANTS: Final[dict[str, type[Contestant]]] = {
    "salesmachine-async": SalesmachineAsync,
    "salesmachine-python": SalesmachinePython,
    "AsyncPosthog": AsyncPosthog,
    "posthog (threads)": Posthog,
    "segment": Segment,
    "rudder": Rudder,
    "mixpanel": Mixpanel,
    "amplitude": Amplitude,
    "snowplow": Snowplow,
    "confluent-kafka": ConfluentKafka,
}
# Those that deliver over HTTP, and one more that can only be given messages.
PEERS: Final = tuple(name for name in CONTESTANTS if name not in ("salesmachine-async", "confluent-kafka"))
KEEPERS: Final = (*PEERS, "confluent-kafka")
# The product's ancestor, and the only other one that is made for asyncio.
NEAREST: Final = ("salesmachine-python", "AsyncPosthog")


def installed(names: tuple[str, ...] = PEERS, *, quick: bool = False) -> tuple[list[str], list[str]]:
    """Return which of them are installed, and one sentence about each that is not; *quick*: of the nearest only."""
    chosen = [name for name in names if not quick or name in NEAREST]
    there = [name for name in chosen if version(CONTESTANTS[name].distribution)]
    skipped = [
        f"{name} skipped: {CONTESTANTS[name].distribution} is not installed (pip install --group bench)"
        for name in chosen
        if name not in there
    ]
    if len(chosen) < len(names):
        skipped.append(f"Quick: of the peers only {' and '.join(chosen)}.")
    return there, skipped


def described(name: str) -> str:
    """Return name and version."""
    return f"{name} {version(CONTESTANTS[name].distribution) or ''}".strip()


async def closed(contestant: Contestant) -> None:
    """Close a contestant, whatever it thinks of it."""
    with suppress(Exception):
        await contestant.close()
