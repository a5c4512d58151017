"""
Redis or Valkey Streams between agents and relays. Needs the extra ``redis`` (redis-py), and a server of version 7.0.

Agents publish with `RedisTransport`; relays deliver with a `RedisEngine`. Each partition is a stream; what belongs to
it has a hash tag of its own, so that the partitions spread over a cluster. Every step that changes anything is one
script, so that it happens completely or not at all.

What is published survives the agents' processes and hosts. Whether it survives the server is the server's business:
with ``appendfsync everysec`` the last second may be lost with the host, two seconds with the process while the disk is
slow, and with a failover what was not replicated; see *confirm* of `RedisTransport`.
"""

from __future__ import annotations

from salesmachine_async.engines.redis.engine import RedisEngine
from salesmachine_async.engines.redis.transport import RedisTransport

__all__ = ["RedisEngine", "RedisTransport"]
