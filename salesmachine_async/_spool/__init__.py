"""
The durable spool: what is queued survives the process.

One directory per agent and process below `Spool.path`, in it an append-only log of segments. A thread of its own does
all work on files; the other threads only read numbers that it publishes and append to its queue.

- `record` (pure): the format of records, segment heads and cursors; scanning and resynchronisation after damage.
- `pieces` (pure): runs of encoded messages.
- `settled_ranges`, `ages` (pure): settlement per partition; the age of the oldest message.
- `files`: system calls, in one place so that tests can inject faults.
- `root`: the path that processes share: its checks, its lock, its bound, its orphans.
- `directory`, `cursor`: one directory and its lock; the file with its settled positions.
- `segment`: one file of the log.
- `damage`: counts unreadable spans and keeps their bytes.
- `log`: the directory of this process: commit, settle, read back.
- `reader`: a directory's messages in order.
- `recovery`: the directories that dead processes left.
- `worker`, `committer`: the work of the thread; the thread.
- `queue_source`: the agent's queues, as the thread sees them; `destination`: whose messages they are.
- `survey`: read-only inspection for the command.
- `spooler`: the class that the agent uses.
"""
