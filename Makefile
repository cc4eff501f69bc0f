# `make demo` and `make test` work on a fresh machine: they make the virtual environment they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAMPLES ?= $(abspath ../shared/samples)
SIZE ?= 100000
ifneq ($(wildcard $(SAMPLES)/TRUTH.json),)
export LLMSESS_SAMPLES ?= $(SAMPLES)
endif

.PHONY: help demo test check lint types docs docs-check bench fuzz clean

help:
	@echo "make demo    install, fill a demo database, and show what the commands print"
	@echo "make test    run the whole test suite"
	@echo "make check   lint, strict types, tests, docs: what CI runs"
	@echo "make bench   the speed table, as ratios (SIZE=1000 sessions for a quick one)"
	@echo "make fuzz    a longer search for queries and files that break something"
	@echo "make docs    write docs/cli.md from the commands' help"

$(BIN)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(BIN)/.installed
	@LLMSESS=$(BIN)/llmsess bash fixtures/demo.sh

test: $(BIN)/.installed
	$(BIN)/python -m pytest -n auto

check: lint types test docs-check

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/.installed
	$(BIN)/mypy

docs: $(BIN)/.installed
	$(BIN)/python -m docs.generate

docs-check: $(BIN)/.installed
	$(BIN)/python -m docs.generate --check

bench: $(BIN)/.installed
	$(BIN)/python -m benchmarks.run --sessions $(SIZE)

fuzz: $(BIN)/.installed
	LLMSESS_FUZZ=20 $(BIN)/python -m pytest -n auto -k "never_fails or rubbish or gives_back or mangled or odd_values or what_json_gives or keeps_what or any_order or kills_of or any_mix or power_cut or keep_their_level or cover_the_truth or survive_kills or agree_with or conforms or killed_upgrade"

clean:
	rm -rf $(VENV) .demo .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
