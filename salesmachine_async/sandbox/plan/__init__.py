"""Tracking plans: validation of messages by JSON Schema, and inference of a first plan."""
