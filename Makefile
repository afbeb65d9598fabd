PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all docs pretrained lint format clean

demo: $(VENV)/.runtime
	$(BIN)/python tools/demo.py

# Two processes at a time.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-all: test
	$(BIN)/python -m pytest -m "slow and not bench" --numprocesses 2 --dist loadfile

# The documentation as a site, in build/docs/site.
docs: $(VENV)/.docs
	$(BIN)/python tools/build_site.py

# Fetches, trains for about twelve hours on two cores, and puts the model into the package; goes on where it was cut off.
pretrained: $(VENV)/.test
	$(BIN)/python tools/pretrain.py

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) demo build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, and '$(PYTHON)' is not one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps keep a second `make` from installing anything, until pyproject.toml changes.
$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,bench,tools,dev]"
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@ $(VENV)/.runtime
