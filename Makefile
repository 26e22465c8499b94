# `make help` lists the targets. Each target installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Markers of finished steps, in .venv so that they disappear with it.
RUN := $(VENV)/installed-run
DEV := $(VENV)/installed-dev
CORE := $(VENV)/compiled-core
# The versions to install; CONSTRAINTS=/dev/null installs the newest.
CONSTRAINTS ?= constraints.txt
PARTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test bench lint fix protos check-protos lock clean
# Two concurrent pips would interfere with each other.
.NOTPARALLEL:

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(CORE) $(DEV)  ## Install everything into .venv and compile the core (other targets install what they need)

run: $(CORE)  ## Run the whole mesh on http://localhost:8000 until Ctrl-C
	@exec $(BIN)/tradeul up

test: $(CORE) $(DEV)  ## Run all tests; ARGS='tests/unit -k filters' runs some
	$(BIN)/python -m pytest $(ARGS)

bench: $(CORE) $(DEV)  ## Run the benchmarks and write build/bench.json; PARTS=core or PARTS=mesh runs some
	$(BIN)/python -m bench $(PARTS)

lint: $(CORE) $(DEV)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(CORE) $(DEV)  ## Fix the style where that is possible automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(CORE) $(DEV)  ## Generate the stubs, Envoy's descriptor set and the OpenAPI document from protos/
	$(BIN)/python -m tools.protogen

check-protos: $(CORE) $(DEV)  ## Check that the files generated from protos/ are current, and the protos' style
	$(BIN)/python -m tools.protogen --check
	$(BIN)/python -m tools.protogen --image build/protos.binpb
	cd protos && ../$(BIN)/buf lint ../build/protos.binpb

lock: | $(BIN)/python  ## Update constraints.txt to the newest versions, for Python 3.11 to 3.14
	@echo "Resolving versions: a few seconds"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python tools/requirements.py build > $(VENV)/requirements-build.txt
	@{ echo "# The versions that make installs, for every Python; written by make lock."; \
		$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --strip-extras \
		--no-header --no-annotate pyproject.toml $(VENV)/requirements-build.txt; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

clean:  ## Remove all generated files, including .venv and the embedded stores' data
	rm -rf build dist .venv .tradeul *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find fastcore services tests bench tools gateway protos -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f fastcore/*.so fastcore/*.c

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

$(BIN)/python:
	@$(PYTHON) tools/preflight.py
	@echo "Creating $(VENV) with $$($(PYTHON) --version): a few seconds"
	@$(PYTHON) -m venv $(VENV)

# Includes the packages that build the core: a Cython newer than the compiled modules would recompile them all.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the packages that run the mesh: a download of 200 MB, once; 1 to 2 minutes"
	@$(BIN)/python tools/requirements.py build run embedded simulator > $(VENV)/requirements-run.txt
	@$(PIP) --requirement $(VENV)/requirements-run.txt
	@touch $@

$(DEV): $(RUN)
	@echo "Installing the packages for tests, checks and benchmarks: a download of 120 MB, once; about a minute"
	@$(BIN)/python tools/requirements.py build run embedded simulator bench dev > $(VENV)/requirements-dev.txt
	@$(PIP) --requirement $(VENV)/requirements-dev.txt
	@touch $@

# Only what changed is compiled again.
$(CORE): setup.py $(wildcard fastcore/*.pyx fastcore/*.pxd) $(RUN)
	@echo "Compiling the core: about 3 minutes for all of it"
	@$(BIN)/python setup.py --quiet build_ext --inplace
	$(if $(filter setup.py $(RUN),$?),@$(PIP) --no-deps --no-build-isolation --editable .)
	@touch $@
