"""The paths of the resources, of which the documentation shows one."""

from __future__ import annotations

from dataclasses import dataclass, fields

from salesmachine_async.errors import ConfigError

__all__ = ["Paths"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """
    The path of each resource, below the base URL.

    Only ``/v2/Contacts`` is documented, with a capital letter; the other defaults follow its form.

    Attributes:
        contacts: Of contacts.
        accounts: Of accounts.
        notes: Of notes.
        activities: Of activities.
        tasks: Of tasks.
        users: Of users.

    Raises:
        ConfigError: A path does not begin with one slash, ends with one, or holds a query, escapes or dots.
    """

    contacts: str = "/v2/Contacts"
    accounts: str = "/v2/Accounts"
    notes: str = "/v2/Notes"
    activities: str = "/v2/Activities"
    tasks: str = "/v2/Tasks"
    users: str = "/v2/Users"

    def __post_init__(self) -> None:
        for field in fields(self):
            path: object = getattr(self, field.name)
            if not isinstance(path, str) or not path.startswith("/") or path.startswith("//") or path.endswith("/"):
                raise ConfigError(f"Paths.{field.name} must be a path like /v2/Contacts")
            if not path.isascii() or not path.isprintable() or set(path) & set(" ?#%\\") or "/." in path:
                raise ConfigError(f"Paths.{field.name} must be a plain path, without query, escapes or dots")

    @classmethod
    def lower(cls) -> Paths:
        """Return the paths in lower case: ``/v2/contacts`` and so on."""
        return cls(**{field.name: str(field.default).lower() for field in fields(cls)})
