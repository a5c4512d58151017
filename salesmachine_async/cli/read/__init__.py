"""``salesmachine list``, ``get``, ``delete`` and ``request``: the Access API (v2), and any other call."""
