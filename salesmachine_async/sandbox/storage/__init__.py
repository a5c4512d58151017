"""The state: SQLite tables, the logs in memory, and NDJSON."""
