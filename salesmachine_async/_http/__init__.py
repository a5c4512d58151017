"""What every HTTP client of this library shares: configuration, sessions, name resolution, backoff."""
