# The two commands are `make demo` and `make test`; each sets up what it needs.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-fast lint format lock docs bench clean

setup:
	@bash scripts/setup.sh $(VENV)

demo: setup
	@bash scripts/demo.sh $(VENV)

# Two at a time, the quick tests first; whatever starts clusters or containers has the machine for itself. With two at
# a time each has one thread: threads of OpenMP that wait for a core take it from those that work.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m "not slow" -n 2 --durations=10
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m "slow and not service" -n 2 --dist loadfile --durations=30
	$(BIN)/python -m pytest tests -m "slow and service" --durations=30

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m "not slow" -n 2

lint: setup
	$(BIN)/ruff check launcher runner tests scripts
	$(BIN)/ruff format --check launcher runner tests scripts
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_size.py

format: setup
	$(BIN)/ruff check --fix launcher runner tests scripts
	$(BIN)/ruff format launcher runner tests scripts

lock: setup
	bash scripts/lock.sh

docs: setup
	$(BIN)/python scripts/cli_reference.py
	$(BIN)/python -m ftl_config.reference

bench: setup
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .demo build dist outputs
