# Every target sets itself up in .venv on a machine that has only Python (>= 3.11) and make.
PYTHON ?= python3
BIN := .venv/bin
# The CPU build of torch where pip offers one; on Linux the default index has CUDA builds.
PIP_FLAGS ?=
# Tests share the cores; every process takes some 2 GB.
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal

.PHONY: demo test test-all lint bench docs clean setup

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch .venv/.ready

demo: setup  ## the main job: train one species of every family, compare them, write a report
	$(BIN)/python examples/demo.py

test: setup  ## the checks that run in minutes
	$(BIN)/python -m pytest $(PARALLEL)

test-all: setup  ## those and the slow ones
	$(BIN)/python -m pytest $(PARALLEL) -m ''

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/tables.py --check

docs: setup  ## rewrite the generated tables of the README
	$(BIN)/python docs/tables.py

bench: setup  ## speed and precision; see docs/results.md
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/precision.py

clean:
	rm -rf .venv runs build dist
