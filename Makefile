# `make demo` and `make test` set everything up by themselves, in .venv, by pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SWEEP ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-quick test-slow coverage mutation lint audit lock ui report pages calibrate docs dist clean setup

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv and install everything (the other targets do it by themselves)

$(STAMP): pyproject.toml constraints.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL)
	@touch $@

# the pinned set is tested on x86-64 Linux with Python 3.11 and checked by its hashes; it is whole, so nothing is resolved
# (older pips look for the newest of a package asked for with an extra, whose hash the set has not), and pip check says
# so. Elsewhere pip resolves within pyproject's ranges
LOCKED = $(shell $(PYTHON) -c "import sys, platform; print('yes' if (sys.version_info[:2], platform.machine(), sys.platform) == ((3, 11), 'x86_64', 'linux') else '')")
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALL = $(if $(LOCKED),$(PIP) --no-deps --require-hashes -r requirements.lock && $(PIP) --no-deps --no-build-isolation -e . && \
  $(BIN)/python -m pip check --disable-pip-version-check,$(PIP) -e '.[dev]')

demo: $(STAMP) ## a real DenseNet121 study on this machine, a few minutes
	$(BIN)/python -m harness experiment=demo

# in two processes: what shares something costly stays in one of them (tests/spread.py), and what comes first takes longest
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test: $(STAMP) ## the tests, in two processes; make test LONGEST=15 fails those that take more seconds of two cores
	$(PYTEST) $(if $(LONGEST),--longest $(LONGEST)) -m "not minutes and not repository"

test-all: test ## those, then the tests that take minutes each, which CONTRIBUTING.md names
	$(PYTEST) -m minutes

test-quick: test
test-slow: test-all

# a GPU's own calls are answered by stand-ins, so no GPU is needed; what a worker that is killed ran is not counted
ROOMS := src/harness/stats/* src/harness/measure/* src/harness/system/cache.py
coverage: $(STAMP) ## branches that the tests of stats, measure and the cache take: an error below 95% of any (5 minutes)
	$(BIN)/python -m pytest -q -m "not minutes" --cov --cov-report= \
	  tests/unit/stats tests/unit/measure tests/unit/engines/test_cache.py tests/unit/engines/test_shared.py
	@set -e; for room in $(foreach room,$(ROOMS),'$(room)'); do \
	  $(BIN)/python -m coverage report --include="$$room" --show-missing --skip-covered --fail-under=95; done

mutation: $(STAMP) ## small changes of stats that none of its tests notices, told at the end (5 minutes)
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lint: $(STAMP) ## format, style, types, who imports whom, and whether pages, studies and packaging are right
	$(BIN)/ruff format --check src tests experiments docs
	$(BIN)/ruff check src tests experiments docs
	$(BIN)/mypy
	$(BIN)/mypy --config-file experiments/mypy.ini
	$(BIN)/lint-imports --no-cache
	$(PYTEST) -q -m "repository and not minutes"

ui: $(STAMP) ## browse the runs in MLflow, our view already open
	$(BIN)/python -m harness.ui

report: $(STAMP) ## analyse a sweep and write its page, report.html: make report [SWEEP=name]
	$(BIN)/python -m harness.report $(SWEEP) --html report.html

pages: $(STAMP) ## the page of every committed study, made from its data into pages/ (2 minutes)
	$(BIN)/python experiments/pages.py --out pages

calibrate: $(STAMP) ## does the estimator keep its promises? simulated quartets, a table and a figure
	$(BIN)/python experiments/calibration/run.py

docs: $(STAMP) ## build the documentation into site/, strictly: a broken link is an error
	$(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

dist: $(STAMP) ## the sdist, and the wheel built from it, in dist/, as a package index would take them
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

audit: $(STAMP) ## known vulnerabilities of the locked set; says so where no index answers
	PYTHON=$(BIN)/python .ci/audit

lock: ## renew requirements.lock from pyproject.toml and constraints.txt (needs an index)
	$(BIN)/uv pip compile pyproject.toml --extra dev -c constraints.txt --generate-hashes --quiet --no-header \
	  --no-annotate --no-emit-index-url --python-version 3.11 --python-platform x86_64-manylinux_2_28 -o requirements.lock

clean: ## remove caches and build leftovers (not the results in mlruns/, not .venv)
	rm -rf .harness_cache .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage* build dist site pages mutants
	find src tests experiments -name __pycache__ -type d -prune -exec rm -rf {} +
