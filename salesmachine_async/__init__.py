"""
Asynchronous, buffered event tracking for the Salesmachine API.

::

    async with Agent("TOKEN", "SECRET") as agent:
        agent.track("123456", "user_registration", {"account_uid": "78910"})

Public names are imported on first access, because the pytest plug-in and the command are part of this package and must
not import modules they do not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from salesmachine_async._version import __version__

if TYPE_CHECKING:
    from salesmachine_async._core.batch import Batch
    from salesmachine_async._core.response import Outcome, Verdict
    from salesmachine_async._delivery.transport import HttpTransport, Transport
    from salesmachine_async.agent import Agent
    from salesmachine_async.errors import (
        AgentClosed,
        CertificateRejected,
        ConfigError,
        ConnectionFailed,
        DeliveryError,
        InvalidMessage,
        MessageTooLarge,
        QueueFull,
        RateLimited,
        Rejected,
        RequestTimeout,
        SalesmachineError,
        ServerFailure,
        SpoolFailed,
        Unauthorized,
        WrongLoop,
    )
    from salesmachine_async.integrations._context import current_tracker, tracking
    from salesmachine_async.policy import Batching, Invalid, Overflow, QueueLimits, Retry, Spool, Timeouts
    from salesmachine_async.report import (
        Delivery,
        DropReason,
        Endpoint,
        Loss,
        LossReason,
        Report,
        SpoolState,
        SpoolStats,
        State,
        Stats,
    )
    from salesmachine_async.scrubbing import sample, scrub
    from salesmachine_async.threaded import ThreadedAgent
    from salesmachine_async.tracker import Tracker

__all__ = [
    "Agent",
    "AgentClosed",
    "Batch",
    "Batching",
    "CertificateRejected",
    "ConfigError",
    "ConnectionFailed",
    "Delivery",
    "DeliveryError",
    "DropReason",
    "Endpoint",
    "HttpTransport",
    "Invalid",
    "InvalidMessage",
    "Loss",
    "LossReason",
    "MessageTooLarge",
    "Outcome",
    "Overflow",
    "QueueFull",
    "QueueLimits",
    "RateLimited",
    "Rejected",
    "Report",
    "RequestTimeout",
    "Retry",
    "SalesmachineError",
    "ServerFailure",
    "Spool",
    "SpoolFailed",
    "SpoolState",
    "SpoolStats",
    "State",
    "Stats",
    "ThreadedAgent",
    "Timeouts",
    "Tracker",
    "Transport",
    "Unauthorized",
    "Verdict",
    "WrongLoop",
    "__version__",
    "current_tracker",
    "sample",
    "scrub",
    "tracking",
]

_HOMES = {
    name: home
    for home, names in {
        "_core.batch": ("Batch",),
        "_core.response": (
            "Outcome",
            "Verdict",
        ),
        "_delivery.transport": (
            "HttpTransport",
            "Transport",
        ),
        "agent": ("Agent",),
        "errors": (
            "AgentClosed",
            "CertificateRejected",
            "ConfigError",
            "ConnectionFailed",
            "DeliveryError",
            "InvalidMessage",
            "MessageTooLarge",
            "QueueFull",
            "RateLimited",
            "Rejected",
            "RequestTimeout",
            "SalesmachineError",
            "ServerFailure",
            "SpoolFailed",
            "Unauthorized",
            "WrongLoop",
        ),
        "integrations._context": (
            "current_tracker",
            "tracking",
        ),
        "policy": (
            "Batching",
            "Invalid",
            "Overflow",
            "QueueLimits",
            "Retry",
            "Spool",
            "Timeouts",
        ),
        "report": (
            "Delivery",
            "DropReason",
            "Endpoint",
            "Loss",
            "LossReason",
            "Report",
            "SpoolState",
            "SpoolStats",
            "State",
            "Stats",
        ),
        "scrubbing": (
            "sample",
            "scrub",
        ),
        "threaded": ("ThreadedAgent",),
        "tracker": ("Tracker",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
