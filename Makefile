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
# Files of tests that run side by side: most of the time they wait for processes.
PROCESSES ?= 2
PARTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test test-dashboard test-cluster test-sanitized test-newest bench bench-small bench-scale
.PHONY: lint fix protos check-protos robustness robustness-small soak fuzz
.PHONY: image lock web clean
# Two concurrent pips would interfere with each other.
.NOTPARALLEL:

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(CORE) $(DEV)  ## Install everything into .venv and compile the core (other targets install what they need)

run: $(CORE)  ## Run the whole mesh on http://localhost:8000 until Ctrl-C
	@exec $(BIN)/tradeul up

# The dashboard in a browser and the image have targets of their own: they take minutes, and most changes touch neither.
test: $(CORE) $(DEV)  ## Run all tests but those of test-dashboard and test-cluster; ARGS='tests/unit -k filters' runs some
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder \
		$(or $(ARGS),--ignore=tests/dashboard --ignore=tests/cluster)

test-dashboard: $(CORE) $(DEV)  ## Run the tests of the dashboard in Chromium, with a mesh
	$(BIN)/python -m pytest $(or $(ARGS),tests/dashboard)

test-cluster: $(CORE) $(DEV)  ## Build the image and run the Pods of k8s/overlays/local with podman (needs root, buildah, podman)
	@echo "Building the images: about 5 minutes, most of them to compile the core"
	@$(BIN)/python -m tests.cluster.images
	$(BIN)/python -m pytest $(or $(ARGS),tests/cluster)

robustness: $(CORE) $(DEV)  ## Inject faults into the real mesh for 40 minutes: nothing may be lost; ARGS='--seed 7 --only redis'
	$(BIN)/python -m tests.robustness.faults $(ARGS)

robustness-small: $(CORE) $(DEV)  ## Inject some of the faults, once each: 4 minutes
	$(BIN)/python -m tests.robustness.faults --small --seed 1 $(ARGS)

HOURS ?= 2

soak: $(CORE) $(DEV)  ## Run the mesh under load for HOURS, 2 by default: memory, files and lag in build/soak.csv and .svg
	$(BIN)/python -m bench.soak --hours $(HOURS) $(ARGS)

# The core's own tests, and the services' tests that give it the most unusual input.
CORE_TESTS := tests/parity tests/robustness/test_core_fuzz.py tests/robustness/test_fuzz_corpus.py \
	$(addprefix tests/unit/test_,alert_looks.py alert_rules.py alert_stories.py compiled_core.py feed_decoder.py filter_parser.py \
	filters.py market.py ranked_list.py rounding.py suspect_prints.py wire.py)

# A copy of the tree with its own core: $(call copy_to,FOLDER)
TREE := $(wildcard fastcore services tests bench tools gateway protos docs) setup.py pyproject.toml README.md
define copy_to
	@mkdir -p $(1)
	@rm -rf $(addprefix $(1)/,$(filter-out fastcore,$(TREE))) $(1)/fastcore/*.p* $(1)/fastcore/reference
	@tar --create --exclude='*.so' --exclude=__pycache__ --exclude=node_modules $(TREE) | tar --extract --directory $(1)
endef

# Python is built without the sanitizers, so they are loaded before it, from the fuzzer's library. It must not manage
# memory itself, and leaks that it leaves to the operating system at exit are not reported.
SANITIZED := build/sanitized
FUZZER := $(SANITIZED)/packages/asan_with_fuzzer.so
SANITIZE = LD_PRELOAD=$(CURDIR)/$(FUZZER) ASAN_OPTIONS=detect_leaks=0:malloc_context_size=4:quarantine_size_mb=32 \
	UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc
define compile_sanitized
	@command -v clang >/dev/null || { echo "Found no clang, which builds with sanitizers (Debian, Ubuntu: apt install clang)"; exit 1; }
	$(call copy_to,$(SANITIZED))
	@echo "Compiling the core with sanitizers: about 3 minutes for all of it"
	@cd $(SANITIZED) && CC="$(CLANG)" FASTCORE_SANITIZE=1 $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	@grep -rlq 'RaiseBufferIndexError(' $(SANITIZED)/build/cython || { echo "The build has no bounds checks"; exit 1; }
endef
CLANG ?= clang

# In a folder of its own: nothing but the fuzzer needs it.
$(FUZZER): pyproject.toml constraints.txt | $(DEV)
	@echo "Installing the fuzzer: a download of 35 MB, once"
	@$(BIN)/python tools/requirements.py fuzz > $(VENV)/requirements-fuzz.txt
	@$(PIP) --no-deps --upgrade --target $(@D) --requirement $(VENV)/requirements-fuzz.txt
	@touch $@

test-sanitized: $(CORE) $(DEV) $(FUZZER)  ## Run the core's tests with bounds checks and the address and undefined-behaviour sanitizers (needs clang)
	$(compile_sanitized)
	cd $(SANITIZED) && $(SANITIZE) $(CURDIR)/$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile -o timeout=1500 $(or $(ARGS),$(CORE_TESTS))

TARGET ?=
SECONDS ?= 60

fuzz: $(CORE) $(DEV) $(FUZZER)  ## Fuzz the core with sanitizers; TARGET=decoder sets what to fuzz, SECONDS=600 how long (needs clang)
	$(compile_sanitized)
	cd $(SANITIZED) && $(SANITIZE) PYTHONPATH=packages $(CURDIR)/$(BIN)/python -m tests.robustness.fuzz --seconds $(SECONDS) \
		--corpus $(CURDIR)/tests/robustness/fuzz/corpus $(TARGET) $(ARGS)

test-newest:  ## Run the unit tests with the newest versions instead of those of constraints.txt, in build/newest
	$(MAKE) VENV=build/newest CONSTRAINTS=/dev/null test ARGS='$(or $(ARGS),tests/unit)'

bench: $(CORE) $(DEV)  ## Run the benchmarks and write build/bench.json; PARTS=core or PARTS=mesh runs some
	$(BIN)/python -m bench $(PARTS)

bench-small: $(CORE) $(DEV)  ## Run every benchmark once, on a small scale, to check that it works; the figures mean nothing
	$(BIN)/python -m bench --small $(PARTS)
	$(if $(PARTS),,$(BIN)/python -m bench.scale_bench --small)

bench-scale: $(CORE) $(DEV)  ## Measure how costs grow with symbols, trades, scans, rates and watchers; PARTS=symbols runs some
	$(BIN)/python -m bench.scale_bench $(PARTS)

lint: $(CORE) $(DEV)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(CORE) $(DEV)  ## Fix the style where this can be done automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(CORE) $(DEV)  ## Generate the stubs, Envoy's descriptor set and the OpenAPI document from protos/
	$(BIN)/python -m tools.protogen

check-protos: $(CORE) $(DEV)  ## Check that the files generated from protos/ are up to date, and the style of the protos
	$(BIN)/python -m tools.protogen --check
	$(BIN)/python -m tools.protogen --image build/protos.binpb
	cd protos && ../$(BIN)/buf lint ../build/protos.binpb

# The dashboard's packages, by their lock file.
WEB := gateway/web
$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	@echo "Installing the dashboard's packages: about 10 seconds"
	@cd $(WEB) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

web: $(WEB)/node_modules/.package-lock.json  ## Build the dashboard from gateway/web into gateway/site (needs Node 20.19 or later)
	cd $(WEB) && npm run check && npm test && npm run build

lock: | $(BIN)/python  ## Update constraints.txt to the newest versions, for Python 3.11 to 3.14
	@echo "Resolving versions: a few seconds"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python tools/requirements.py build > $(VENV)/requirements-build.txt
	@{ echo "# The versions that make installs, for every Python; written by make lock."; \
		$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --strip-extras \
		--no-header --no-annotate pyproject.toml $(VENV)/requirements-build.txt; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

# docker, podman or buildah, whichever is there.
IMAGE_TOOL ?= $(firstword $(shell command -v docker podman buildah))
IMAGE ?= tradeul:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

image:  ## Build the container image of all services; IMAGE=NAME:TAG names it
	@[ -n "$(IMAGE_TOOL)" ] || { echo "Found none of docker, podman, buildah"; exit 1; }
	@echo "Building $(IMAGE) with $(IMAGE_TOOL): about 5 minutes, most of them to compile the core"
	$(IMAGE_TOOL) build $(IMAGE_ARGS) --file k8s/image/Dockerfile --tag $(IMAGE) \
		--build-arg VERSION=$(lastword $(subst :, ,$(IMAGE))) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
		--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) .

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
	@$(BIN)/python tools/requirements.py build run embedded > $(VENV)/requirements-run.txt
	@$(PIP) --requirement $(VENV)/requirements-run.txt
	@touch $@

$(DEV): $(RUN)
	@echo "Installing the packages for tests, checks and benchmarks: a download of 120 MB, once; about a minute"
	@$(BIN)/python tools/requirements.py build run embedded bench dev > $(VENV)/requirements-dev.txt
	@$(PIP) --requirement $(VENV)/requirements-dev.txt
	@touch $@

# Only what changed is compiled again.
$(CORE): setup.py $(wildcard fastcore/*.pyx fastcore/*.pxd) $(RUN)
	@echo "Compiling the core: about 3 minutes for all of it"
	@$(BIN)/python setup.py --quiet build_ext --inplace
	$(if $(filter setup.py $(RUN),$?),@$(PIP) --no-deps --no-build-isolation --editable .)
	@touch $@
