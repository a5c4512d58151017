"""
``salesmachine demo --fleet``: four workers, an engine and two relays, some of which are killed.

- `server` runs the engine: a valkey-server or redis-server of its own.
- `worker` is the process that tracks; it publishes to the engine, or sends straight to the sandbox.
- `run` starts and kills them, and compares the sandbox with what the workers have tracked.
- `summary` prints the results.
"""
