"""Faults: their script, how each is injected, and the rate limit."""
