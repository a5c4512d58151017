"""Engines: distributed queues between agents and relays."""
