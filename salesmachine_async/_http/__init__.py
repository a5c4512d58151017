"""Shared parts of the HTTP clients of this library: configuration, sessions, name resolution, backoff."""
