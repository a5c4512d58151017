"""The tables of the sandbox's database."""

from __future__ import annotations

COUNTERS = (
    "contacts",
    "accounts",
    "events",
    "pageviews",
    "aliases",
    "accepted",
    "duplicates",
    "rejected",
    "batches",
    "evicted",
)

# Incremented when the tables change, so that a file of another version is refused and not misread.
VERSION = 2

# `added_at` is the time at which a contact or account was created here; `created_at` is the time its messages state.
# Ids are never reused (AUTOINCREMENT) because v2 shows them. The other objects of v2, such as notes, are JSON in the
# table `object`. An alias row maps a further uid to the primary uid of its contact. The only index of events serves the
# timeline and the merge of contacts; another one would slow each batch by a tenth, therefore events by name or account
# are found by scanning the workspace in order (100,000 events in about 10 ms).
SCHEMA = f"""
CREATE TABLE workspace (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL DEFAULT 0,
    {", ".join(f"{counter} INTEGER NOT NULL DEFAULT 0" for counter in COUNTERS)}
);
CREATE TABLE contact (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace INTEGER NOT NULL, uid TEXT NOT NULL,
    params TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    added_at INTEGER NOT NULL, archived INTEGER NOT NULL DEFAULT 0,
    UNIQUE (workspace, uid)
);
CREATE TABLE account (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace INTEGER NOT NULL, uid TEXT NOT NULL,
    params TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    added_at INTEGER NOT NULL, archived INTEGER NOT NULL DEFAULT 0,
    UNIQUE (workspace, uid)
);
CREATE TABLE alias (
    workspace INTEGER NOT NULL, uid TEXT NOT NULL, contact TEXT NOT NULL,
    PRIMARY KEY (workspace, uid)
) WITHOUT ROWID;
CREATE INDEX alias_contact ON alias (workspace, contact);
CREATE TABLE membership (
    workspace INTEGER NOT NULL, contact TEXT NOT NULL, account TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (workspace, contact, account)
) WITHOUT ROWID;
CREATE INDEX membership_account ON membership (workspace, account, seq);
CREATE TABLE event (
    workspace INTEGER NOT NULL, seq INTEGER NOT NULL,
    contact TEXT NOT NULL, contact_uid TEXT NOT NULL, event_uid TEXT NOT NULL, account TEXT,
    params TEXT NOT NULL, created_at INTEGER NOT NULL, received_at INTEGER NOT NULL, message_id TEXT,
    PRIMARY KEY (workspace, seq)
) WITHOUT ROWID;
CREATE INDEX event_contact ON event (workspace, contact, seq);
CREATE TABLE seen (
    workspace INTEGER NOT NULL, message_id TEXT NOT NULL,
    PRIMARY KEY (workspace, message_id)
) WITHOUT ROWID;
CREATE TABLE object (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace INTEGER NOT NULL, kind TEXT NOT NULL, created_at INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE INDEX object_kind ON object (workspace, kind, id);
PRAGMA user_version = {VERSION};
"""
TABLES = ("contact", "account", "alias", "membership", "event", "seen", "object")
