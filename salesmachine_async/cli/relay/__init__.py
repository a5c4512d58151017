"""
``salesmachine relay``: deliver what agents have published to an engine, and inspect the queue.

Each subcommand has a file of its own; `options` opens the engine, `delivery` runs a relay and shows it, and `metrics`
serves its figures over HTTP.
"""
