"""
``salesmachine demo``: track a web shop, and compare the sandbox with a record of the shop.

It has three processes, so that they do not share an event loop: this one serves the shop with the agent, `visitors`
sends requests and measures, the sandbox receives. `command` parses, `run` runs the rounds, `shop` calls the agent
through the recorder of `audit`, `figures` has the measurements, `control` reads the sandbox, `screen` and `summary`
print.
"""
