"""Requests and responses: credentials, media types, and the form of every answer."""
