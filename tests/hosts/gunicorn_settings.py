"""Settings of gunicorn: each worker logs a line as soon as it obeys SIGTERM; one sent before that has no effect."""

from typing import Any


def post_worker_init(worker: Any) -> None:
    """Log that the worker is ready."""
    worker.log.info("worker is ready")
