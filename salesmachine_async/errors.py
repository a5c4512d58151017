"""
Every error the library raises or reports, in one tree.

::

    SalesmachineError
    ├── ConfigError (ValueError)          a setting (argument, policy, environment variable) is unusable
    ├── InvalidMessage (ValueError)       an argument of a tracking call cannot be sent; the error holds its path
    │   └── MessageTooLarge               one message alone exceeds ``Batching.max_bytes``
    ├── QueueFull                         the queue is full, under ``Overflow.RAISE``
    ├── AgentClosed (RuntimeError)        a call after ``aclose()``
    ├── WrongLoop (RuntimeError)          the agent is running in another event loop
    ├── SpoolFailed                       what was accepted cannot be written to the spool
    └── DeliveryError                     a request failed; seen in reports, hooks and ``ping()``
        ├── ConnectionFailed              no usable HTTP answer: refused, reset, DNS, TLS, garbage
        │   └── CertificateRejected       the server's TLS certificate was not accepted
        ├── RequestTimeout                no answer in time
        ├── Unauthorized                  the API key was not accepted (401, 403)
        ├── RateLimited                   429
        ├── Rejected                      the server rejected the request: any other 3xx or 4xx
        └── ServerFailure                 5xx, or a status HTTP does not define

No error ever holds the token, the secret or a tracked value.
"""

from __future__ import annotations

__all__ = [
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
]


class SalesmachineError(Exception):
    """The base class of all errors of this library; never raised itself."""


class ConfigError(SalesmachineError, ValueError):
    """A setting (an argument or its environment variable) is unusable. The text never holds a token or a secret."""


class InvalidMessage(SalesmachineError, ValueError):
    """
    An argument of a tracking call cannot be sent.

    Attributes:
        path: The place of the value, from the argument of the call down: ``params.plan.started``.
        problem: The reason. It names types, never values.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem

    def __reduce__(self) -> tuple[type[InvalidMessage], tuple[str, str]]:
        """Pickle both arguments, because the default passes only the joined text."""
        return type(self), (self.path, self.problem)


class MessageTooLarge(InvalidMessage):
    """A message is larger than a batch (``Batching.max_bytes``) or the whole queue may be."""


class QueueFull(SalesmachineError):
    """The queue is full and the policy is ``Overflow.RAISE``; the message was not accepted."""


class AgentClosed(SalesmachineError, RuntimeError):
    """The agent is closed and accepts no more messages."""


class WrongLoop(SalesmachineError, RuntimeError):
    """The agent is running in another event loop; close it there first, or create one agent for each loop."""


class SpoolFailed(SalesmachineError):
    """What was accepted could not be written to the spool: it is only in memory. Its ``__cause__`` is the `OSError`."""


class DeliveryError(SalesmachineError):
    """
    A request failed.

    Attributes:
        status: The HTTP status, or None without a valid HTTP answer.
        retry_after: The seconds of the ``Retry-After`` header, or None.
        server_message: The value of ``error`` in the server's answer, at most 500 characters; not part of
            ``str(error)`` because a server may quote the request in it. Token and secret are replaced by ``***``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        server_message: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.server_message = server_message


class ConnectionFailed(DeliveryError):
    """No usable HTTP answer: refused, reset, DNS, TLS, or garbage instead of HTTP."""


class CertificateRejected(ConnectionFailed):
    """The server's TLS certificate was not accepted. Verification is never switched off."""


class RequestTimeout(DeliveryError):
    """No answer within ``Timeouts.connect`` or ``Timeouts.request``, or an answer with status 408."""


class Unauthorized(DeliveryError):
    """The API key was not accepted."""


class RateLimited(DeliveryError):
    """The server answered 429; see ``retry_after``."""


class Rejected(DeliveryError):
    """The server rejected the request (a 3xx or 4xx status)."""


class ServerFailure(DeliveryError):
    """The server failed (5xx) or answered with a status that HTTP does not define."""
