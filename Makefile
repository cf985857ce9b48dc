# make train   train the network on the EM stack and score it      make test   all checks
# make test-fast   the checks of the rooms that need no data and no training, within a minute
# make notebooks   run all notebooks and write their outputs
# Both set up .venv with the pinned packages first. No compiler and no account is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: train test test-fast notebooks setup lint types unit fuzz clean

train: $(READY)
	$(BIN)/unet train --profile auto $(ARGS)

test: lint types unit

notebooks: $(READY)
	$(BIN)/python scripts/notebooks.py $(ARGS)

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "unet needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,notebooks,export,app,paper]'
	@touch $(READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Two processes, each with whole modules of tests, in the order of their names (the long ones are not among the last).
unit: $(READY)
	GOMP_SPINCOUNT=10000 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Rooms that are arithmetic alone; what starts processes of its own is left to `make test`.
FAST := tests/test_architecture.py tests/test_files.py tests/test_geometry.py tests/config \
        tests/metrics tests/tiles tests/data/synthetic tests/data/test_split.py tests/study/test_stats.py \
        tests/study/test_curves.py tests/study/test_design.py tests/study/test_verdicts.py

test-fast: $(READY)
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore tests/metrics/test_jit.py $(FAST) $(ARGS)

# More than 10,000 generated hostile and broken files, folders, settings and flags; ARGS="--cases 100000" for more.
fuzz: $(READY)
	$(BIN)/python scripts/robustness/fuzz.py $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
