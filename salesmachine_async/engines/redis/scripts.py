"""
The scripts: every step that changes anything is one of them, and so happens as a whole or not at all.

Each step of an owner compares the token of the lease first (it is *fenced*): a relay that was frozen for longer than
its lease can neither read nor settle anything when it wakes up, because another relay may own the partition by then.
That includes reading, which takes entries out of the group.

The scripts of relays have the flag ``allow-oom``: a server at ``maxmemory`` is drained by deleting, and for that a
relay has to write its lease. Publishing has it not, and is refused there.

The commands are those of Redis 7.0.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

__all__ = ["ENTRY_BYTES", "LuaScript"]

# Approximate bytes of an entry besides its body, so that many small entries are bounded as well.
ENTRY_BYTES: Final = 128


class LuaScript:
    """
    A script, and how the server names it.

    Attributes:
        text: In Lua.
        sha: Its name for EVALSHA.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


# Returns the version and the number of partitions, which the first caller has fixed.
META: Final = LuaScript("""#!lua flags=allow-oom
redis.call('HSETNX', KEYS[1], 'version', '1')
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
return redis.call('HMGET', KEYS[1], 'version', 'partitions')
""")

# The messages of a producer are numbered, and a batch covers a range of these numbers. The number of those published
# tells whether a batch, or the batch that it is a half of, was published by a request whose answer was lost. It is kept
# for an hour, which is far longer than a batch is repeated while the server can be reached.
#
# A stream is created only by a caller who has just seen to the number of streams (META): without that number, which a
# server forgets with its data, relays would find no stream.
#
# KEYS: queue, size, published
# ARGV: first number, messages, endpoint, body, bound in bytes, milliseconds to keep the number, overhead,
#       1 to create the stream
PUBLISH: Final = LuaScript("""#!lua
local upto = tonumber(ARGV[1]) + tonumber(ARGV[2])
if tonumber(redis.call('GET', KEYS[3]) or '-1') >= upto then return 'DUPLICATE' end
local bytes = tonumber(redis.call('HGET', KEYS[2], 'bytes') or '0')
local cost = #ARGV[4] + tonumber(ARGV[7])
if bytes > 0 and bytes + cost > tonumber(ARGV[5]) then return 'FULL' end
if redis.call('EXISTS', KEYS[1]) == 0 then
  if ARGV[8] ~= '1' then return 'MISSING' end
  redis.call('XGROUP', 'CREATE', KEYS[1], 'relay', '0', 'MKSTREAM')
end
redis.call('XADD', KEYS[1], '*', 'v', '1', 'e', ARGV[3], 'n', ARGV[2], 'b', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'bytes', cost)
redis.call('HINCRBY', KEYS[2], 'messages', ARGV[2])
redis.call('SET', KEYS[3], upto, 'PX', ARGV[6])
return 'PUBLISHED'
""")

# KEYS: owner. ARGV: token, milliseconds
ACQUIRE: Final = LuaScript("""#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
""")

# Reads one entry at a time, because XREADGROUP has no bound in bytes. What was read and not settled is the history of
# the group's one consumer.
#
# The owner says up to where it knows the group to have read. If the group has read further, an answer was lost, perhaps
# one to a command that the client library has repeated by itself, and what it held is in the history now.
#
# KEYS: owner, queue
# ARGV: token, milliseconds, '>' for new entries or the id after which to read the history, messages, bytes,
#       id up to which the group has read, as far as the owner knows
# Answers nil if the lease is lost; else the id up to which the group has read, and the entries, or nil if the owner
# has to read the history. Of an entry: id, endpoint, messages, body; or, if no agent has written it: id, fields.
FETCH: Final = LuaScript("""#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local after, messages, bytes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if messages == 0 then return {ARGV[6], {}} end

local function position()
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
  for _, group in ipairs(groups.err and {} or groups) do
    local found = {}
    for i = 1, #group, 2 do found[group[i]] = group[i + 1] end
    if found['name'] == 'relay' then return found['last-delivered-id'] end
  end
  redis.call('XGROUP', 'CREATE', KEYS[2], 'relay', '0', 'MKSTREAM')
  return '0-0'
end

local at = position()
if after == '>' and at ~= ARGV[6] then return {at, false} end
local entries = {}
while messages > 0 and bytes > 0 do
  local reply = redis.call('XREADGROUP', 'GROUP', 'relay', 'relay', 'COUNT', 1, 'STREAMS', KEYS[2], after)
  local entry = reply and reply[1][2][1]
  if not entry then break end
  local id, fields = entry[1], entry[2]
  if after == '>' then at = id else after = id end
  if fields then
    local known = #fields == 8 and fields[3] == 'e' and fields[5] == 'n' and fields[7] == 'b'
    entries[#entries + 1] = known and {id, fields[4], fields[6], fields[8]} or {id, fields}
    messages = messages - math.max(tonumber(fields[6] or '') or 1, 1)
    bytes = bytes - #(fields[8] or '')
  else
    redis.call('XACK', KEYS[2], 'relay', id)
  end
end
return {at, entries}
""")

# An entry is removed once, whatever is repeated, and its dead letters are stored only together with that. Without any
# entry it is a permission to send.
#
# KEYS: owner, queue, size, dead, pause
# ARGV: token, milliseconds, most dead letters, number of entries, then of each: id, bytes, messages;
#       then of each dead letter: the id of its entry, and the values of its fields
# Answers nil if the lease is lost; else the milliseconds that a pause still lasts.
SETTLE: Final = LuaScript("""#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local removed, last = {}, 4 + 3 * tonumber(ARGV[4])
for i = 5, last, 3 do
  redis.call('XACK', KEYS[2], 'relay', ARGV[i])
  if redis.call('XDEL', KEYS[2], ARGV[i]) == 1 then
    removed[ARGV[i]] = true
    redis.call('HINCRBY', KEYS[3], 'bytes', 0 - ARGV[i + 1])
    redis.call('HINCRBY', KEYS[3], 'messages', 0 - ARGV[i + 2])
  end
end
for i = last + 1, #ARGV, 8 do
  if removed[ARGV[i]] then
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'reason', ARGV[i + 1], 'status', ARGV[i + 2],
      'error', ARGV[i + 3], 'server', ARGV[i + 4], 'e', ARGV[i + 5], 'line', ARGV[i + 6], 'relay', ARGV[i + 7])
  end
end
if last > 4 and redis.call('XLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end
return math.max(redis.call('PTTL', KEYS[5]), 0)
""")

# KEYS: owner. ARGV: token
RELEASE: Final = LuaScript("""#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")

# A pause is only ever prolonged, by the clock of the server.
#
# KEYS: pause. ARGV: milliseconds
PAUSE: Final = LuaScript("""#!lua flags=allow-oom
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return 1
""")

# Answers with the microseconds after which a request may be sent. If these are at most the longest wait, the place in
# the sequence is taken.
#
# KEYS: rate
# ARGV: microseconds between two requests; longest wait in microseconds
TURN: Final = LuaScript("""#!lua flags=allow-oom
local interval = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = due - now
if wait <= tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], string.format('%.0f', due + interval), 'PX', math.ceil((wait + interval) / 1000) + 1000)
end
return wait
""")

# Restores the number of partitions, too, if the server has lost its data. Returns it; 0 if it is unknown.
#
# KEYS: relays, descriptions, meta
# ARGV: name, description, milliseconds after which the relay counts as dead, number of partitions or 0
MEMBERS: Final = LuaScript("""#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], dead)
  redis.call('HDEL', KEYS[2], dead)
end
if ARGV[4] ~= '0' then
  redis.call('HSETNX', KEYS[3], 'version', '1')
  redis.call('HSETNX', KEYS[3], 'partitions', ARGV[4])
end
return {tonumber(redis.call('HGET', KEYS[3], 'partitions') or '0'), redis.call('ZRANGE', KEYS[1], 0, -1)}
""")

# KEYS: relays, descriptions. ARGV: name
LEAVE: Final = LuaScript("""#!lua flags=allow-oom
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
""")

# KEYS: relays, descriptions
FLEET: Final = LuaScript("""#!lua flags=no-writes
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for _, relay in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')) do
  found[#found + 1] = {relay, redis.call('HGET', KEYS[2], relay) or ''}
end
return found
""")

# KEYS: owner, queue, size, dead, pause
STATUS: Final = LuaScript("""#!lua flags=no-writes
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local age = 0
if oldest then age = math.max(now - tonumber(string.match(oldest[1], '%d+')), 0) end
local size = redis.call('HMGET', KEYS[3], 'messages', 'bytes')
return {
  redis.call('GET', KEYS[1]) or '', math.max(redis.call('PTTL', KEYS[1]), 0), tonumber(size[1] or '0'),
  redis.call('XLEN', KEYS[2]), tonumber(size[2] or '0'), age, redis.call('XLEN', KEYS[4]),
  math.max(redis.call('PTTL', KEYS[5]), 0),
}
""")

# KEYS: queue, size, dead. ARGV: id of the dead letter, body, endpoint, overhead
RETRY_DEAD: Final = LuaScript("""#!lua
if redis.call('XDEL', KEYS[3], ARGV[1]) == 0 then return 0 end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'relay', '0', 'MKSTREAM')
end
redis.call('XADD', KEYS[1], '*', 'v', '1', 'e', ARGV[3], 'n', '1', 'b', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[2] + tonumber(ARGV[4]))
redis.call('HINCRBY', KEYS[2], 'messages', 1)
return 1
""")
