"""One question per file, each answered beside a floor and beside peers, in one run. `python -m benchmarks` asks all."""
