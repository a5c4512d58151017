"""
A local Salesmachine: both its APIs on a loopback port, with inspection by programs and on a page.

The sandbox shares no code with the agent, so that each can verify the other. The names are loaded on first use, because
`testing` imports a part of this package without the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salesmachine_async.sandbox.faults.rate_limit import RateLimit
    from salesmachine_async.sandbox.faults.script import Fault
    from salesmachine_async.sandbox.server import Sandbox

__all__ = ["Fault", "RateLimit", "Sandbox"]

_MODULES = {"Fault": "faults.script", "RateLimit": "faults.rate_limit", "Sandbox": "server"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see above

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
