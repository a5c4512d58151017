"""The tracking endpoints, `/v1/…`, and the forms of old clients."""
