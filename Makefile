# `make demo` and `make test` set everything up by themselves, in .venv, by pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SWEEP ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint ui report calibrate clean setup

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv and install everything (the other targets do it by themselves)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	@touch $@

# the pinned set is tested on x86-64 with Python 3.11; elsewhere pip resolves within pyproject's ranges
CONSTRAINTS = $(shell $(PYTHON) -c "import sys, platform; print('-c constraints.txt' if sys.version_info[:2] == (3, 11) and platform.machine() == 'x86_64' else '')")

demo: $(STAMP) ## a real DenseNet121 study on this machine, a few minutes
	$(BIN)/python -m harness experiment=demo

test: $(STAMP) ## all tests that this machine can run
	$(BIN)/python -m pytest

lint: $(STAMP) ## format, style and types
	$(BIN)/ruff format --check src tests experiments
	$(BIN)/ruff check src tests experiments
	$(BIN)/mypy

ui: $(STAMP) ## browse the runs in MLflow, our view already open
	$(BIN)/python -m harness.ui

report: $(STAMP) ## analyse a sweep and write its page, report.html: make report [SWEEP=name]
	$(BIN)/python -m harness.report $(SWEEP) --html report.html

calibrate: $(STAMP) ## does the estimator keep its promises? simulated quartets, a table and a figure
	$(BIN)/python experiments/calibration/run.py

clean: ## remove caches and build leftovers (not the results in mlruns/, not .venv)
	rm -rf .harness_cache .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find src tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +
