"""
A local Salesmachine: both its APIs on a loopback port, open to inspection by programs and on a page.

It stands on its own: it shares no code with the agent, so that the two can check each other.
"""

from salesmachine_async.sandbox.faults.rate_limit import RateLimit
from salesmachine_async.sandbox.faults.script import Fault
from salesmachine_async.sandbox.server import Sandbox

__all__ = ["Fault", "RateLimit", "Sandbox"]
