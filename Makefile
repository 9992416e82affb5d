# Every target does all its own set-up. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Byte code is compiled at installation, so that the first start is as quick as the second.
STAMP := $(VENV)/.installed-contlearn
PLUGINS := $(wildcard plugins/*)

.PHONY: demo test test-quick check bench clean

$(STAMP): pyproject.toml constraints.txt Makefile $(wildcard plugins/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "contlearn needs Python 3.11 or newer; name one with make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.5"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable ".[all]" $(PLUGINS:%=--editable %) --group test
	$(BIN)/python -m compileall -q contlearn tests
	@touch $@

demo: $(STAMP)
	$(BIN)/contlearn demo

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-quick: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu"

test: check
	$(BIN)/pytest -n 2 --dist worksteal -m "not gpu"

# The benchmarks behind tests/benchmarks/RESULTS.md; hours in all, each can be run alone.
bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks --list

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
