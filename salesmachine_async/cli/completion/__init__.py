"""``salesmachine completion``: static scripts, so that no Python starts at each press of Tab."""
