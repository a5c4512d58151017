"""The site of `tests.hosts.visited_sites` that the variable ``SITE`` names, where a server looks for it."""

import os

from tests.hosts import visited_sites

app = getattr(visited_sites, os.environ["SITE"])()
