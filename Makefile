# make run: the main job from a fresh checkout. make test: the tests. Both make .venv first.
# make accuracy: docs/accuracy.md from the tables of published measurements in $(MEASUREMENTS).
# make gallery: every figure of plots/ anew, and their index.
# make calibrate: fits the constants of chips and systems to the tables there, and writes them into topologies/.
PYTHON ?= python3
MEASUREMENTS ?= ../shared/validation
FITTED_SYSTEMS := dgx-a100 dgx-h100 dgx-b200
PROFILES := results/profiles
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench bench-sweep accuracy gallery calibrate clean

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
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/architect.py

bench-sweep: $(VENV)/installed-dev
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/kill.py

accuracy: $(VENV)/installed
	$(BIN)/scaleout accuracy $(MEASUREMENTS) --write docs/accuracy.md --notes docs/accuracy.yaml

gallery: $(VENV)/installed
	for script in plots/*.py; do $(BIN)/python $$script plots/gallery || exit $$?; done
	$(BIN)/python plots/gallery/index.py

calibrate: $(VENV)/installed-dev
	$(BIN)/python -m scaleout.calibration.gemm $(MEASUREMENTS)/gemm.csv --write
	$(BIN)/python -m scaleout.calibration.attention $(MEASUREMENTS)/attention.csv --write
	$(BIN)/python -m scaleout.calibration.elementwise $(MEASUREMENTS)/elementwise.csv --write
	$(BIN)/python -m scaleout.calibration.moe $(MEASUREMENTS)/moe.csv --write
	$(BIN)/python -m scaleout.calibration.profiles $(MEASUREMENTS)/serving/kernels --into $(PROFILES)
	$(BIN)/python -m scaleout.calibration.gemm $(PROFILES)/gemm.csv --chip rtx-pro-6000 --splits 1 2 3 4 6 8 12 16 --write
	$(BIN)/python -m scaleout.calibration.gemm $(PROFILES)/gemm.csv --chip rtx-4090 --write
	$(BIN)/python -m scaleout.calibration.attention $(PROFILES)/attention.csv --chip rtx-pro-6000 --chip rtx-4090 --write
	$(BIN)/python -m scaleout.calibration.elementwise $(PROFILES)/elementwise.csv --write
	$(BIN)/python -m scaleout.calibration.moe $(PROFILES)/moe.csv --write
	for system in $(FITTED_SYSTEMS); do \
	  $(BIN)/python -m scaleout.calibration.collectives $(MEASUREMENTS)/collectives.csv --system $$system --write \
	    || exit $$?; \
	done

clean:
	rm -rf $(VENV) results .mypy_cache .ruff_cache .pytest_cache .hypothesis
