# make help lists the targets. Everything is installed into .venv; nothing outside this folder is changed,
# but for the peers of the tests, which make test installs with apt-get when it runs as root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARCHIVE ?= embedded
MINUTES ?= 10
WORKERS ?= 3
PEERS := chromium dcmtk orthanc orthanc-dicomweb postgresql prometheus rsyslog rsyslog-gnutls

# In CI nothing may be skipped: the tests fail where a peer is missing.
export ISCL_NODE_REQUIRE_PEERS := $(if $(CI),1,$(ISCL_NODE_REQUIRE_PEERS))

.PHONY: help install demo test quick check bench bench-page bench-ablation train-gpu quality test-long peers

help: ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

install: $(VENV)/.installed ## Install the node into .venv

demo: $(VENV)/.installed ## Denoise a real CT series from archive to archive (ARCHIVE=embedded or orthanc); on a terminal its page stays open
	@if [ -t 1 ]; then keep=--keep; fi; $(BIN)/iscl-node demo --archive $(ARCHIVE) $${keep:-}

# Tests wait as much as they compute: one process more than CI has cores. With WORKERS=0 there is none but pytest's own.
test: $(VENV)/.installed-dev peers check ## Everything that CI runs: check, then the tests in WORKERS processes with their coverage floor
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n $(WORKERS) --dist worksteal --cov --cov-report=term

# Without what starts whole programs, trains or needs a peer.
SLOW := system bundle demo fuzz deployment pipeline/engine
quick: check ## check, and nine tenths of the tests, in two minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not long and not peers" -n 2 --dist worksteal $(SLOW:%=--ignore=tests/%)

check: $(VENV)/.installed-dev ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-bench peers ## Times as ratios, side by side, also with other software (nothing else should run on the machine)
	$(BIN)/python -m pytest tests/benchmarks/bench_*.py --benchmark-columns=median,rounds
	@mkdir -p build/bench
	PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/wire.py --json build/bench/wire.json

bench-page: $(VENV)/.installed-dev peers ## The page with 10,000 series, and reception while ten browsers look
	PYTHONPATH=.:tests:tests/system $(BIN)/python -u tests/benchmarks/page_under_load.py

bench-ablation: $(VENV)/.installed-dev ## Table I of the paper in a short run (DATA=folder of real CT, as tests/benchmarks/training_data.py wants it)
	@test -n "$(DATA)" || { echo "error: make bench-ablation DATA=FOLDER; FOLDER holds chest_abdomen/<patient>/*.dcm and head_gantry_tilt/*.dcm" >&2; exit 1; }
	$(BIN)/python tests/benchmarks/training_data.py $(DATA) build/ablation/data
	$(BIN)/python tests/benchmarks/ablation.py build/ablation/data build/ablation/runs

train-gpu: $(VENV)/.installed-train ## The whole training within MINUTES on a CUDA GPU, or the processor (DATA=folder with clean and noisy)
	@test -n "$(DATA)" || { echo "error: make train-gpu DATA=FOLDER MINUTES=10; FOLDER holds clean and noisy, images of different patients" >&2; exit 1; }
	$(BIN)/python tests/benchmarks/train_gpu.py $(DATA) build/train-gpu --minutes $(MINUTES)

quality: $(VENV)/.installed ## The gate: the node's denoiser on held-out patients of DATA and in water (DATA=folder of DICOM; ARGS=--fast, --help)
	@test -n "$(DATA)" || { echo "error: make quality DATA=FOLDER; FOLDER holds patients of monai_bundle/configs/splits/quality.json" >&2; exit 1; }
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m iscl_node.assessment $(DATA) build/quality $(ARGS)

test-long: $(VENV)/.installed-dev peers ## The tests that are too long for every change
	$(BIN)/python -m pytest -m long

peers:
	@missing=""; for package in $(PEERS); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing$$missing for the tests"; \
		apt-get update -qq -o Acquire::Retries=3 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends $$missing >/dev/null; \
	else \
		echo "NOTE: not installed:$$missing. Tests that need them are skipped; run make test as root on Debian, or install them."; \
	fi

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old; Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@rm -rf $(VENV); $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); virtualenv --quiet -p $(PYTHON) $(VENV) 2>/dev/null; } || \
		{ rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing ISCL Node into $(VENV) (the first time takes some minutes)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-train: $(VENV)/.installed
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing ISCL Node and its tests' tools into $(VENV) (the first time takes some minutes)"
	@$(PIP) -e '.[dev,train]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-train

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	@$(PIP) -e '.[dev,train,bench]'
	@touch $@
