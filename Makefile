# make lab    make the environment, fetch the model, open JupyterLab on the first notebook
# make test   make the environment if need be, run all tests; EXTRAS=test,parity brings TRL along
# make notebooks  every notebook on SmolLM2, its claims checked; hours; ARGS="-k 05_ppo" for one
# make check  ruff
VENV := .venv
PYTHON3 ?= python3
PYTHON := $(VENV)/bin/python
BROWSER ?=
EXTRAS ?= test

lab: $(VENV)/made
	$(PYTHON) -m lab start $(if $(filter none,$(BROWSER)),--no-browser)

test: $(VENV)/made-test
	$(PYTHON) -m lab fetch
	$(PYTHON) -m pytest $(ARGS)

notebooks: $(VENV)/made-test
	$(PYTHON) -m lab fetch
	LAB_NOTEBOOKS=smollm2 $(PYTHON) -m pytest tests/test_notebooks.py -o faulthandler_timeout=0 $(ARGS)

check: $(VENV)/made-test
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .

$(VENV)/made: pyproject.toml constraints.txt
	$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The lab needs Python 3.11 or newer.")'
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	touch $@

$(VENV)/made-test: $(VENV)/made
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' -c constraints.txt
	touch $@

.PHONY: lab test notebooks check
