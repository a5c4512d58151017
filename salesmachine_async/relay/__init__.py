"""
The relay: delivers what agents have published to an engine, a distributed queue outside of their processes.

A `Relay` owns some partitions of the engine, each by a lease, and delivers their batches to Salesmachine as an agent
does: in order, with backoff, pauses, parking and the search for rejected messages. Any number of relays share the
partitions, one pause and one rate. See `salesmachine_async.engines.redis` for the engine on Redis or Valkey.
"""

from __future__ import annotations

from salesmachine_async.relay.engine import (
    DeadLetter,
    DeadLetterStore,
    Engine,
    Entry,
    FleetStatus,
    Lease,
    LeaseLost,
    PartitionStatus,
    RelayStatus,
)
from salesmachine_async.relay.relay import Relay
from salesmachine_async.relay.stats import RelayState, RelayStats

__all__ = [
    "DeadLetter",
    "DeadLetterStore",
    "Engine",
    "Entry",
    "FleetStatus",
    "Lease",
    "LeaseLost",
    "PartitionStatus",
    "Relay",
    "RelayState",
    "RelayStats",
    "RelayStatus",
]
