# make run: the main job from a fresh checkout. make test: the tests. Both make .venv first.
# make accuracy: docs/accuracy.md from the tables of published measurements in $(MEASUREMENTS).
PYTHON ?= python3
MEASUREMENTS ?= ../shared/validation
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench accuracy clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "scaleout needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

run: $(VENV)/installed
	$(BIN)/scaleout run

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/bench.py

accuracy: $(VENV)/installed
	$(BIN)/scaleout accuracy $(MEASUREMENTS) --write docs/accuracy.md --notes docs/accuracy.yaml

clean:
	rm -rf $(VENV) results .mypy_cache .ruff_cache .pytest_cache .hypothesis
