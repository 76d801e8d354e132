# Each target makes what it needs in .venv. The README names two: `make demo MODEL=DIR` and
# `make test`.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
DEMO ?= demo
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: demo test test-slow lint clean

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) --editable .
	touch $@

$(BIN)/.installed-for-tests: $(BIN)/.installed
	$(INSTALL) --editable '.[$(EXTRAS)]'
	touch $@

demo: $(BIN)/.installed
	@test -n "$(MODEL)" || { echo 'give a model folder: make demo MODEL=DIR'; exit 2; }
	$(BIN)/python -m tests.make_demo $(DEMO)/bids
	$(BIN)/brainchop $(DEMO)/bids $(DEMO)/derivatives participant --model '$(MODEL)' \
	    --work-dir $(DEMO)/work
	@echo "Look at $(DEMO)/derivatives/sub-MNI152.html"

lint: $(BIN)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m 'not slow'

test-slow: $(BIN)/.installed-for-tests
	$(BIN)/pytest -m slow

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
