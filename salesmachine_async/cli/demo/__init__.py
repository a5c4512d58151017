"""
``salesmachine demo``: a real web shop, tracked, and the proof that nothing was lost.

Three processes, so that none takes time from another on the same event loop: this one serves the shop, which embeds
the agent; `visitors` runs apart and measures; the sandbox runs apart and receives. The straight line: `command`
parses, `run` conducts, `shop` calls the agent through the `ledger`'s witness, `visitors` measures into `figures`,
`control` reads the sandbox back into the ledger's audit, `screen` and `summary` show it.
"""
