# Everything here makes its own environment; it needs Python >= 3.11 with pip, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-slow lint format clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | column -t -s '|'

setup: $(READY) ## Make the environment for everything below (a contributor's one command)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; $(PYTHON) is " + sys.version.split()[0] + ". Say PYTHON=python3.12, for example.")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(READY) ## Train a small detector from nothing, evaluate it, draw: a few minutes
	$(BIN)/python scripts/demo.py

docs: $(DOCS_READY) ## Build the documentation into build/docs; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/docs/index.html; with search: $(BIN)/python -m http.server --directory build/docs"

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# Small programs, and many: what takes time is LLVM, of which test-slow has all.
test: $(READY) ## The tests that every change must pass
	XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0" $(PYTEST) -m "not slow"

test-slow: $(READY) ## Processes, kills, large models and long runs
	$(PYTEST) -m slow

lint: $(READY) ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY) ## Put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, and what the demo and the documentation wrote
	rm -rf $(VENV) build/docs demo_output
