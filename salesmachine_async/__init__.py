"""
Asynchronous, buffered event tracking for the Salesmachine API.

::

    async with Agent("TOKEN", "SECRET") as agent:
        agent.track("123456", "user_registration", {"account_uid": "78910"})
"""

from salesmachine_async._core.batch import Batch, Endpoint
from salesmachine_async._core.wire import Outcome, Verdict
from salesmachine_async._delivery.transport import HttpTransport, Transport
from salesmachine_async._version import __version__
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
    Unauthorized,
    WrongLoop,
)
from salesmachine_async.policy import Batching, Invalid, Overflow, QueueLimits, Retry, Timeouts
from salesmachine_async.report import Delivery, Loss, LossReason, Report, Stats
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
    "Stats",
    "ThreadedAgent",
    "Timeouts",
    "Tracker",
    "Transport",
    "Unauthorized",
    "Verdict",
    "WrongLoop",
    "__version__",
]
