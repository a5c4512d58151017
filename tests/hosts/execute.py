"""Becomes another program: ``python -m tests.hosts.execute HOST:PORT PROGRAM ARGUMENT...``."""

import os
import sys

if __name__ == "__main__":
    sys.stdout.write(f"http://{sys.argv[1]}\n")
    sys.stdout.flush()
    os.execv(sys.argv[2], sys.argv[2:])
