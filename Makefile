# `make help` lists what can be made. Everything is installed into .venv by the first target that needs it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# In .venv, so that they go together.
BUILT := $(VENV)/built
PARTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test bench lint fix protos check-protos clean

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(BUILT)  ## Make .venv with everything in it, the extensions compiled (other targets do it by themselves)

run: $(BUILT)  ## Run the whole mesh on http://localhost:8000 until Ctrl-C
	@exec $(BIN)/tradeul up

test: $(BUILT)  ## Run all tests; ARGS='tests/unit -k filters' runs some
	$(BIN)/python -m pytest $(ARGS)

bench: $(BUILT)  ## Measure and print every figure, write build/bench.json; PARTS=core or PARTS=mesh measures some
	$(BIN)/python -m bench $(PARTS)

lint: $(BUILT)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(BUILT)  ## Correct the style where that can be done by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(BUILT)  ## Make the stubs, Envoy's descriptor set and the OpenAPI document from protos/
	$(BIN)/python -m services.kit.protogen

check-protos: $(BUILT)  ## Check that what is made from protos/ is current, and the protos' style
	$(BIN)/python -m services.kit.protogen --check
	$(BIN)/python -m services.kit.protogen --image build/protos.binpb
	cd protos && ../$(BIN)/buf lint ../build/protos.binpb

clean:  ## Remove everything that was made, .venv and the embedded stores' data included
	rm -rf build dist .venv .tradeul *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find fastcore services tests bench protos -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f fastcore/*.so fastcore/*.c

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, was $$($(PYTHON) --version); make PYTHON=python3.12 names another" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

# What builds is installed first: extensions would be compiled anew when their Cython is newer than they are.
define INSTALL
	$(BIN)/python -c '$(BUILD_REQUIRES)' > $(VENV)/build-requires.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/build-requires.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[embedded,dev]'
endef

# Only what changed is compiled again.
define COMPILE
	$(BIN)/python setup.py --quiet build_ext --inplace
endef

$(BUILT): pyproject.toml setup.py $(wildcard fastcore/*.pyx fastcore/*.pxd) | $(BIN)/python
	$(if $(filter pyproject.toml setup.py,$?),$(INSTALL),$(COMPILE))
	@touch $@
