"""
Tools for the tests of applications: a recorder in memory, and pytest fixtures.

::

    def test_order_is_tracked(client, salesmachine):
        client.post("/orders/9")
        salesmachine.assert_tracked("order_created", contact_uid="123456", order="9")

Public names are imported on first access, because pytest imports this package in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salesmachine_async.testing._capture import capture
    from salesmachine_async.testing._recorder import Recorder
    from salesmachine_async.testing._workspace import Workspace, serve

__all__ = ["Recorder", "Workspace", "capture", "serve"]

_HOMES = {"Recorder": "_recorder", "Workspace": "_workspace", "capture": "_capture", "serve": "_workspace"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (see above)

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
