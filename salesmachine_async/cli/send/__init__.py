"""``salesmachine contact``, ``account``, ``track``, ``pageview`` and ``alias``: one message, sent by the real agent."""
