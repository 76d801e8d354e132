# Each target makes what it needs in .venv. The README names two: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
DEMO ?= demo
# Where label maps lie, which recipe is trained from them, and where.
LABEL_MAPS ?= ../shared/data/label_maps/synthseg-20
RECIPE ?= tissue
RETRAIN ?= retrain
BACKEND ?=
KIT ?= retrain-kit
KIT_PYTHON ?= 3.12
BIN := $(VENV)/bin
LOCK := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header
# Where the light installation has wheels of all packages (docopt is published as source alone).
SYSTEMS := x86_64-manylinux_2_28 aarch64-manylinux_2_35 aarch64-apple-darwin x86_64-pc-windows-msvc
LOCK_IMAGE := $(LOCK) --python-version 3.11 --python-platform x86_64-manylinux_2_28 --extra validate
INSTALL := $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

# The page of brainchop-web, and what it is made of.
PAGE := brainchop_bids/data/web/index.html
PAGE_SOURCES := $(wildcard web/*.html web/*.js brainchop_bids/data/report/*.css) \
    $(shell find web/src web/public -type f)

.PHONY: demo test test-slow lint docs descriptor lock retrain retrain-kit web clean

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) --editable .
	touch $@

$(BIN)/.installed-for-tests: $(BIN)/.installed
	$(INSTALL) --editable '.[$(EXTRAS)]'
	touch $@

$(BIN)/.installed-light: requirements-light.txt
	@$(PYTHON) tools/install_light.py $(VENV)
	@touch $@

# Needs neither TensorFlow nor niworkflows; an environment that has them will do.
demo: $(firstword $(wildcard $(BIN)/.installed) $(BIN)/.installed-light)
	@$(BIN)/brainchop examples/bids $(DEMO)/derivatives participant \
	    --work-dir $(DEMO)/work $(if $(MODEL),--model '$(MODEL)')
	@echo "Open $(DEMO)/derivatives/sub-06.html in a browser: the report of the scan and its labels."

lint: $(BIN)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m 'not slow' --numprocesses=logical --maxprocesses=4 --dist=loadfile

test-slow: $(BIN)/.installed-for-tests
	$(BIN)/pytest -m slow

docs: $(BIN)/.installed
	$(INSTALL) --editable '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build
	@echo "Look at docs/_build/index.html"

web: $(PAGE)

$(PAGE): $(PAGE_SOURCES) web/node_modules/.package-lock.json
	npm --prefix web run --silent build -- --logLevel error

# As the lock file says; scripts of packages are not run.
web/node_modules/.package-lock.json: web/package-lock.json
	npm --prefix web ci --silent --ignore-scripts --no-audit --no-fund

# boutiques.json and the version file, from the parser.
descriptor: $(BIN)/.installed
	$(BIN)/python tools/describe_app.py

# What the image and the light installation are made of, see container/README.md.
lock: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --universal --python-version 3.10 --override container/light-overrides.txt \
	    --output-file requirements-light.txt pyproject.toml
	for system in $(SYSTEMS); do \
	    $(BIN)/uv pip install --quiet --dry-run --target . --python-platform $$system \
	        --only-binary :all: --no-binary docopt --requirement requirements-light.txt || exit; \
	done
	$(LOCK_IMAGE) --override container/light-overrides.txt --constraint requirements-light.txt \
	    --output-file container/cpu.lock pyproject.toml container/build.in
	$(LOCK_IMAGE) --output-file container/gpu.lock pyproject.toml container/build.in container/gpu.in

# Goes on where it was stopped. Afterwards score it, and copy $(RETRAIN)/tissue to
# brainchop_bids/data/models if it is better: see recipes/README.md.
retrain: $(BIN)/.installed
	$(BIN)/brainchop-train recipes/$(RECIPE).toml --out $(RETRAIN) \
	    $(if $(BACKEND),--backend $(BACKEND)) \
	    --set "data.label_maps='$(LABEL_MAPS)'"

retrain-kit:
	PYTHON=$(PYTHON) recipes/pack.sh $(KIT) $(LABEL_MAPS) $(KIT_PYTHON)

clean:
	rm -rf $(VENV) $(DEMO) $(RETRAIN) $(KIT) build dist *.egg-info web/node_modules $(dir $(PAGE))
