# Every target does all its own set-up. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The second environment, with transformers 5: it cannot share one with optimum-onnx and adapters.
VENV5 ?= .venv5
BIN5 := $(VENV5)/bin
STAMP5 := $(VENV5)/.installed-contlearn
# Tests that let both environments work on one workspace find the second one by this.
export CONTLEARN_TRAIN5_PYTHON ?= $(if $(wildcard $(STAMP5)),$(abspath $(BIN5)/python))
# Tests at once: on two cores four, as a third of their time is waiting for leases, clocks and processes.
WORKERS ?= 4
# Byte code is compiled at installation, so that the first start is as quick as the second.
STAMP := $(VENV)/.installed-contlearn
PLUGINS := $(wildcard plugins/*)

.PHONY: demo test test-quick test-train5 train5 check bench clean

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
	$(BIN)/mypy $(wildcard plugins/*/contlearn_*.py)
	$(BIN)/lint-imports

test-quick: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow and not gpu"

test: check
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not gpu"

$(STAMP5): $(STAMP) constraints-train5.txt
	test -x $(BIN5)/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV5)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN5)/python --constraint constraints-train5.txt --editable ".[all5]" --group test
	@touch $@

train5: $(STAMP5)

# What depends on transformers, under version 5; `make test` does the same and all else under 4.57.
# Left out: what is about other libraries (compiling, avalanche's packages, processes that are killed).
OTHER5 := test_compiled test_lazy_packages test_fine_tuning test_search test_statistics
test-train5: $(STAMP5)
	$(BIN5)/python -m pytest -n $(WORKERS) --dist worksteal -m "not gpu and not transformers4" $(OTHER5:%=--ignore=tests/unit/training/%.py) tests/unit/modeling tests/unit/training tests/unit/export tests/unit/tasks tests/unit/inference

# The benchmarks behind tests/benchmarks/RESULTS.md; hours in all, each can be run alone.
bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks --list

clean:
	rm -rf $(VENV) $(VENV5) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
