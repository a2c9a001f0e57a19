# make demo | test | lab | data | test-all          (PYTHON=python3.12 picks another interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo lab data test test-all clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/.installed  ## the whole story on embedded data; prints where the report lies
	$(BIN)/workbench demo

lab: $(VENV)/.installed  ## JupyterLab on the notebooks
	$(BIN)/workbench lab

data: $(VENV)/.installed  ## rebuild the embedded data and models
	$(BIN)/python -m workbench.builtin

test: $(VENV)/.installed-test  ## lint, types and the default tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-test  ## the same with the slow tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m ''

clean:
	rm -rf $(VENV) build dist *.egg-info
