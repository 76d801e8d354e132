# Each target makes what it needs in .venv; `make demo MODEL=DIR` and `make test` are the two that
# the README names.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test test-slow lint benchmark clean

$(BIN)/.installed-$(EXTRAS): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[$(EXTRAS)]'
	touch $@

demo: $(BIN)/.installed-$(EXTRAS)
	@test -n "$(MODEL)" || { echo 'make demo needs a model folder: make demo MODEL=DIR'; exit 2; }
	$(BIN)/python -m tests.make_demo $(DEMO)/bids
	$(BIN)/brainchop $(DEMO)/bids $(DEMO)/derivatives participant --model '$(MODEL)' --work-dir $(DEMO)/work
	@echo "Look at $(DEMO)/derivatives/sub-MNI152.html"

lint: $(BIN)/.installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m 'not slow'

test-slow: $(BIN)/.installed-$(EXTRAS)
	$(BIN)/pytest -m slow

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
