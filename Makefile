# make demo          plan and prove the 3-D U-Net for a GPU that is not there
# make test          every check: lint, types, the built wheel, the tests
# make docs          the documentation as a site, in build/docs; warnings are errors
# make bench-plans   the plans that bench-gpu follows; needs no GPU, takes hours
# make bench-gpu     measure on this machine's GPU for 14 minutes; goes on where it stopped
# make experiment-gpu      the papers' experiment on this machine's GPU in 12 minutes
# make experiment-plan     the plan that experiment-gpu follows; needs no GPU
# make experiment-wheels   what experiment-gpu needs beside jax, flax, optax and scipy
# make test-newest   the fast tests again on the newest other Python of this machine

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Imports take a third of the time with bytecode. Tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
SELECTED :=

# Prints the version, such as 3.13, of a Python that is new enough and can make a
# virtual environment; fails on any other.
PROBE := import sys, venv, ensurepip; assert sys.version_info >= (3, 11); \
  print("%d.%d" % sys.version_info[:2])

PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$python -c '$(PROBE)' >/dev/null 2>&1 && echo $$python && break; done)

# Another version than $(PYTHON), on PATH or made by pyenv; looked for only when used.
NEWEST_PYTHON = $(shell used=$$($(PYTHON) -c '$(PROBE)'); \
  for python in python3.14 python3.13 python3.12 python3.11 \
      "$$HOME"/.pyenv/versions/*/bin/python3; do \
    version=$$($$python -c '$(PROBE)' 2>/dev/null) || continue; \
    [ "$$version" = "$$used" ] || echo "$$version $$python"; \
  done | sort -V | tail -n 1 | cut -d' ' -f2)

# uv takes a fifth of pip's time. It does not read pip's settings: where it fails, pip may
# succeed.
INSTALL = install() { \
  $(VENV)/bin/python -m uv pip install --quiet --python $(VENV) --editable "$$1" || \
  $(VENV)/bin/python -m pip install --quiet --editable "$$1"; }; install

# The Python whose JAX sees the GPU, for how long it may measure, and what more to ask of
# `python -m benchmarks`. What is recorded already is not measured again.
BENCH_PYTHON := $(firstword $(wildcard $(VENV)/bin/python) python3)
MINUTES := 14
BENCH :=

# The papers' experiment at its full size. The first arm is the one that decides.
EXPERIMENT := runs/experiment-192
EXPERIMENT_MINUTES := 12
EXPERIMENT_TARGET := h200
EXPERIMENT_PLAN := build/experiment/plan-$(EXPERIMENT_TARGET).json
EXPERIMENT_OPTIONS := --arms multifocal glioma --size 192 --spacing-mm 1 --patch 128 \
  --cases 40 --test-cases 24 --set folds=10 --set device_memory=2.2GiB \
  --set target=$(EXPERIMENT_TARGET)
COMPARE = -m jaxswap._cli.main compare $(EXPERIMENT) --minutes $(EXPERIMENT_MINUTES) \
  --plan $(EXPERIMENT_PLAN) $(EXPERIMENT_OPTIONS)

# Wheels for a Linux machine with Python 3.12 that has jax, flax, optax, scipy, numpy and
# what these need. They are unpacked there, without pip. Of nilearn, files of the head
# alone are read, so what it needs itself is left out. Matplotlib 3.11 needs fonttools to
# draw pictures, 5 MB more.
WHEELS := build/experiment/wheels
UNPACKED := build/experiment/site
WHEELS_OF := highspy nibabel grain portpicker psutil cloudpickle array-record tensorboardX nilearn \
  'matplotlib<3.11' contourpy cycler kiwisolver packaging pillow pyparsing \
  python-dateutil six
PLATFORMS := manylinux2014_x86_64 manylinux_2_17_x86_64 manylinux_2_28_x86_64

.PHONY: help demo bench-plans bench-gpu experiment-gpu experiment-plan experiment-wheels docs test test-newest lint types wheel pytest clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.installed-demo
	@echo "== jaxswap demo"
	@$(VENV)/bin/jaxswap demo

docs: $(VENV)/.installed-test
	@echo "== documentation"
	@$(VENV)/bin/python -m sphinx -b html -n -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

bench-plans: $(VENV)/.installed-demo
	@$(VENV)/bin/python -m benchmarks --plans $(BENCH)

# Exit status 3: time is up before all was measured.
bench-gpu:
	@status=0; $(BENCH_PYTHON) -m benchmarks --backend device --minutes $(MINUTES) \
	  $(BENCH) || status=$$?; [ $$status = 0 ] || [ $$status = 3 ]

# Stop it at any moment; the same line goes on. Report and pictures: $(EXPERIMENT).
# The wheels are for Pythons without these packages.
experiment-gpu:
	@path=.; if ! $(BENCH_PYTHON) -c 'import grain, highspy, matplotlib, nibabel' 2>/dev/null; then \
	  for wheel in $(wildcard $(WHEELS)/*.whl); do \
	    $(BENCH_PYTHON) -m zipfile --extract $$wheel $(UNPACKED); done; \
	  path=.:$(UNPACKED); fi; \
	PYTHONPATH=$$path exec $(BENCH_PYTHON) $(COMPARE)

experiment-plan: $(VENV)/.installed-demo
	@$(VENV)/bin/python $(COMPARE) --only-plan

experiment-wheels: $(VENV)/bin/python
	@rm -rf $(WHEELS)
	@$(VENV)/bin/python -m pip download --quiet --no-deps --only-binary=:all: \
	  --python-version 3.12 $(addprefix --platform ,$(PLATFORMS)) \
	  --dest $(WHEELS) $(WHEELS_OF)
	@du -sh $(WHEELS)

# Types and the wheel keep one processor busy each, the tests two.
test: lint
	@$(MAKE) --no-print-directory --jobs 2 --output-sync types wheel
	@$(MAKE) --no-print-directory pytest

test-newest:
	@newest=$(NEWEST_PYTHON); \
	if [ -z "$$newest" ]; then echo "== no other Python >= 3.11 here: nothing to run"; \
	else $(MAKE) --no-print-directory VENV=.venv-newest PYTHON=$$newest \
	  SELECTED="-m 'not slow and not thorough'" pytest; fi

lint: $(VENV)/.installed-test
	@echo "== lint and format"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-test
	@echo "== types"
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

wheel: $(VENV)/.installed-test
	@echo "== build the wheel, install it afresh, use it from another folder"
	@bash tests/check_wheel.sh $(VENV)/bin/python

pytest: $(VENV)/.installed-test
	@version=$$($(VENV)/bin/python --version); echo "== tests on $$version"; \
	durations="build/test-durations-$${version#Python }.tsv"; \
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal --durations-file="$$durations" $(SELECTED)

# A second run installs nothing unless pyproject.toml changed.
$(VENV)/.installed-demo: pyproject.toml | $(VENV)/bin/python
	@echo "== install jaxswap with sample data and GPU targets"
	@$(INSTALL) '.[medical,data,gpu-targets]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "== install jaxswap and the tools its tests need"
	@$(INSTALL) '.[test]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "jaxswap needs Python 3.11 or newer with its venv" \
	  "module; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "== make $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet uv

clean:
	rm -rf .venv .venv-newest dist build
