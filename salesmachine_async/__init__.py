"""Asynchronous, buffered event tracking for the Salesmachine API."""

from salesmachine_async._version import __version__

__all__ = ["__version__"]
