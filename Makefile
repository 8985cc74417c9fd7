# Everything a fresh machine needs: Python 3.11 or newer with venv, and make. No root.
#   make demo    installs into .venv and runs the main job on examples/mnist
#   make test    installs what the tests need and runs them
#   make bench   counts instructions and bytes of models, networks and single kernels

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
WORKERS ?= 2
PYTEST_FLAGS ?=

.PHONY: demo test lint bench clean help

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@echo "== making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tinsmith needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 4; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# A stamp an extra, so that a second `make` installs nothing.
$(VENV)/.train: $(BIN)/python pyproject.toml
	@echo "== installing tinsmith with what training needs (torch: about 200 MB, once)"
	$(BIN)/pip install --progress-bar on --editable '.[train,tflite]'
	@touch $@

$(VENV)/.all: $(VENV)/.train pyproject.toml
	@echo "== installing what the tests need"
	$(BIN)/pip install --progress-bar on --editable '.[all]'
	@touch $@

demo: $(VENV)/.train
	@echo "== the main job: teacher, student, pruning, int8, C, and the proof on emulated devices"
	$(BIN)/tinsmith run examples/mnist

test: $(VENV)/.all
	@echo "== tests"
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_FLAGS) $(TESTS)

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.all
	$(BIN)/python bench/cortex_m.py
	$(BIN)/python bench/networks.py
	$(BIN)/python bench/kernel_grid.py

clean:
	rm -rf build dist *.egg-info
