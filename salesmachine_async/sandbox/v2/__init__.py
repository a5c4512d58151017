"""The Access API, `/v2/…`."""
