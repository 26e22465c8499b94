# `make help` lists what can be made. What a target needs is installed into .venv by the first that needs it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is done already, as files in .venv, so that they go together.
RUN := $(VENV)/installed-run
DEV := $(VENV)/installed-dev
CORE := $(VENV)/compiled-core
# The versions that are installed; CONSTRAINTS=/dev/null takes the newest.
CONSTRAINTS ?= constraints.txt
PARTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test bench lint fix protos check-protos lock clean
# Two pips at once would be in each other's way.
.NOTPARALLEL:

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(CORE) $(DEV)  ## Make .venv with everything in it, the core compiled (other targets do what they need by themselves)

run: $(CORE)  ## Run the whole mesh on http://localhost:8000 until Ctrl-C
	@exec $(BIN)/tradeul up

test: $(CORE) $(DEV)  ## Run all tests; ARGS='tests/unit -k filters' runs some
	$(BIN)/python -m pytest $(ARGS)

bench: $(CORE) $(DEV)  ## Measure and print every figure, write build/bench.json; PARTS=core or PARTS=mesh measures some
	$(BIN)/python -m bench $(PARTS)

lint: $(CORE) $(DEV)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(CORE) $(DEV)  ## Correct the style where that can be done by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(CORE) $(DEV)  ## Make the stubs, Envoy's descriptor set and the OpenAPI document from protos/
	$(BIN)/python -m tools.protogen

check-protos: $(CORE) $(DEV)  ## Check that what is made from protos/ is current, and the protos' style
	$(BIN)/python -m tools.protogen --check
	$(BIN)/python -m tools.protogen --image build/protos.binpb
	cd protos && ../$(BIN)/buf lint ../build/protos.binpb

lock: | $(BIN)/python  ## Write constraints.txt anew, with the newest versions, for Python 3.11 to 3.14
	@echo "Resolving (some seconds)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python tools/requirements.py build > $(VENV)/requirements-build.txt
	@{ echo "# The versions that make installs, for every Python; written by make lock."; \
		$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --strip-extras \
		--no-header --no-annotate pyproject.toml $(VENV)/requirements-build.txt; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

clean:  ## Remove everything that was made, .venv and the embedded stores' data included
	rm -rf build dist .venv .tradeul *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find fastcore services tests bench tools gateway protos -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f fastcore/*.so fastcore/*.c

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

$(BIN)/python:
	@$(PYTHON) tools/preflight.py
	@echo "Making $(VENV) with $$($(PYTHON) --version) (some seconds)"
	@$(PYTHON) -m venv $(VENV)

# With what builds the core: its modules would be compiled anew when their Cython is newer than they are.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what runs the mesh: 200 MB to download, once; a minute or two"
	@$(BIN)/python tools/requirements.py build run embedded simulator > $(VENV)/requirements-run.txt
	@$(PIP) --requirement $(VENV)/requirements-run.txt
	@touch $@

$(DEV): $(RUN)
	@echo "Installing what tests, checks and measures it: 120 MB to download, once; about a minute"
	@$(BIN)/python tools/requirements.py build run embedded simulator bench dev > $(VENV)/requirements-dev.txt
	@$(PIP) --requirement $(VENV)/requirements-dev.txt
	@touch $@

# Only what changed is compiled again.
$(CORE): setup.py $(wildcard fastcore/*.pyx fastcore/*.pxd) $(RUN)
	@echo "Compiling the core: about 3 minutes when all of it is new"
	@$(BIN)/python setup.py --quiet build_ext --inplace
	$(if $(filter setup.py $(RUN),$?),@$(PIP) --no-deps --no-build-isolation --editable .)
	@touch $@
