"""
The exit status of every command: a contract that scripts rely on.

==== =========================================================================
0    done
1    it went wrong in a way none of the others names
2    used wrongly: arguments, credentials, an input that is not what it was said to be
3    done, but some rows were refused (``import``)
4    refused by the server: the key (401, 403) or the request (another 4xx)
5    the server could not be reached, or kept failing, also after the retries
130  interrupted; what ``import`` had answered for is in its checkpoint
==== =========================================================================
"""

from salesmachine_async.errors import (
    ConfigError,
    ConnectionFailed,
    InvalidMessage,
    RateLimited,
    Rejected,
    RequestTimeout,
    SalesmachineError,
    ServerFailure,
    Unauthorized,
)

DONE = 0
FAILED = 1
USAGE = 2
SOME_REJECTED = 3
REFUSED = 4
UNAVAILABLE = 5
INTERRUPTED = 130

_BY_ERROR: tuple[tuple[type[SalesmachineError], int], ...] = (
    (ConfigError, USAGE),
    (InvalidMessage, USAGE),
    (Unauthorized, REFUSED),
    (Rejected, REFUSED),
    (ConnectionFailed, UNAVAILABLE),
    (RequestTimeout, UNAVAILABLE),
    (RateLimited, UNAVAILABLE),
    (ServerFailure, UNAVAILABLE),
)


def status_of(error: Exception) -> int:
    """Give the exit status that tells *error*."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), FAILED)
