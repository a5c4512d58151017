"""
The durable spool: what is queued survives the process.

One directory per agent and process below `Spool.path`, in it an append-only log of segments. A thread of its own does
all work on files; the other threads only read numbers that it publishes and append to its queue.

- `record` (pure): the bytes of a record, of the head of a segment and of the cursor; reading them again after damage.
- `pieces` (pure): messages on their way to the log and back.
- `ledger`, `ages` (pure): what is settled, per partition; how old the oldest of the rest is.
- `files`: the calls of the operating system, in one place so that tests can put faults there.
- `root`: the path that processes share: its checks, its lock, its bound, its orphans.
- `directory`, `cursor`: one directory and its lock; the file that says how far it is settled.
- `segment`: one file of the log.
- `damage`: what was not readable, counted and kept.
- `log`: the directory of this process: commit, settle, read back.
- `reader`: a directory's messages in order.
- `recovery`: the directories that dead processes left.
- `worker`, `committer`: what is done in the thread; the thread.
- `survey`: a look from outside, for the command.
- `spooler`: the class that the agent uses.
"""
