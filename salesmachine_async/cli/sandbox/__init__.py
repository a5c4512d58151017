"""``salesmachine sandbox`` and ``salesmachine sandbox exec``."""
