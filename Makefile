# make demo    a simulated beamline, a cycling cell, slices growing on a web page
# make test    everything that is checked, with everything that is needed for it
# Each makes its own .venv from the hash-checked requirements.txt; the second time it starts in seconds.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test fast check lock picture docs clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "xrdct-beamline needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.11 ..."; exit 2; }
	@echo "Installing into .venv (once, about 2 GB)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m xrdct_beamline.startup.warm_up
	@touch $(STAMP)

# ARGS="--headless --output out" runs without a browser and writes out/summary.json
demo: $(STAMP)
	@$(BIN)/xrdct demo $(ARGS)

test: check
	$(BIN)/pytest -m "" --durations=15

# The fast set: what to run between two edits.
fast: $(STAMP)
	$(BIN)/pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Resolve the dependencies anew. Names and hashes only: no index, no host.
lock: $(STAMP)
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--strip-extras --allow-unsafe --extra acquisition --extra catalog --extra display --extra sim --extra report --extra cleaning \
		--extra cluster --extra queue --extra docs --extra dev \
		--output-file requirements.txt pyproject.toml

picture: $(STAMP)
	$(BIN)/python docs/make_picture.py

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean:
	rm -rf docs/_build .venv .mypy_cache .ruff_cache .pytest_cache
