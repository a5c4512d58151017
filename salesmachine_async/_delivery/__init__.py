"""The rooms that await: lanes, the shared pause, the transport."""
