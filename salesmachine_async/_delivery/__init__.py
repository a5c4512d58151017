"""The rooms that await: senders, the shared pause, the transport."""
