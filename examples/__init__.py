"""Runnable examples. Each is run by a test, so each is true."""
