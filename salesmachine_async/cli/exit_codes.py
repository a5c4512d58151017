"""
Exit statuses of every command, a contract that scripts rely on.

==== =================================================================
0    done
1    failed in another way
2    usage error: arguments, credentials, or an input in another format
3    done, but some rows were rejected (``import``)
4    rejected by the server: the key (401, 403) or the request
5    the server was not reached or kept failing
130  interrupted
==== =================================================================
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
    """Return the exit status for *error*."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), FAILED)
