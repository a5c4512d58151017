"""
Client of the v2 Access API: reads and manages contacts, accounts, notes and more, one request for each call.

::

    async with AccessClient("V2 TOKEN", tracking_token="V1 TOKEN") as api:
        async for contact in api.contacts.list(status="paying"):
            print(contact.unique_id, contact.data.get("email"))
"""

from salesmachine_async.access.client import AccessClient
from salesmachine_async.access.http_request import Answer
from salesmachine_async.access.listing import Listing, Page
from salesmachine_async.access.objects import Account, Activity, Contact, Note, Ref, Stage, Task, User
from salesmachine_async.access.paths import Paths

__all__ = [
    "AccessClient",
    "Account",
    "Activity",
    "Answer",
    "Contact",
    "Listing",
    "Note",
    "Page",
    "Paths",
    "Ref",
    "Stage",
    "Task",
    "User",
]
