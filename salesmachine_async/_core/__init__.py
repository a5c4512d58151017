"""
The pure core: what the agent decides, with no way to act on it.

The law of this room: nothing here imports asyncio, sockets, a clock or randomness. Time arrives as an
argument, jitter is added outside. ``tests/_core/test_purity.py`` parses the imports and enforces it.
"""
