# make run     from images to an evaluated classifier        make lab    the notebooks in JupyterLab
# make check   lint, types and unit tests, in 3 minutes      make bench  speed and memory, as ratios; coverage of intervals; copies found
# make test    everything that is tested                  make fuzz   random input; make kill: SIGKILL at random moments
#
# make serve   the newest classifier as a REST API
# make cntk    CNTK 2.7 beside it, for old models and engine=cntk (CNTK_PYTHON=/path/to/python3.6)
# make docs    the tables in README.md, CONTRIBUTING.md and docs/ that code makes
#
# LAB="--no-browser --allow-root"  options for imgclf lab
# SERVE="--port 9000"              options for imgclf serve
# PYTHON=python3.12  another Python, 3.11 to 3.13            TORCH=cpu   torch without CUDA (Linux, no NVIDIA GPU)

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Two processes; tests/support/parallel.py says which tests share one, and which come first.
PYTEST := $(BIN)/python -m pytest -n 2

.PHONY: run lint check test lab serve cntk fuzz kill bench notebooks docs lock

run: $(INSTALLED)
	@$(BIN)/imgclf run

lint: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

check: lint
	@$(PYTEST) -m "not browser and not cntk and not notebooks and not service and not slow"

test: $(INSTALLED)
	@$(PYTEST) --durations=20

lab: $(INSTALLED)
	@$(BIN)/imgclf lab $(LAB)

serve: $(INSTALLED)
	@$(BIN)/imgclf serve $(SERVE)

# Random input from a seed, ten minutes: SECONDS=60 SEED=1. What fails lies in fuzz/findings.
fuzz: $(INSTALLED)
	@$(BIN)/python -m pytest fuzz --seconds $(or $(SECONDS),600) --seed $(or $(SEED),0)

# SIGKILL at random moments, 60 for each kind of work: SEED=1.
kill: $(INSTALLED)
	@$(BIN)/python fuzz/kills.py --seed $(or $(SEED),0)

bench: $(INSTALLED)
	@for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

# Everything goes into .cntk, a folder of its own.
cntk: $(INSTALLED)
	@$(BIN)/python -m imgclf.cntk.install

# Runs the notebooks in place, in order, with their defaults, and takes out what differs from machine to machine.
notebooks: $(INSTALLED)
	$(BIN)/python tests/notebooks/refresh.py

docs: $(INSTALLED)
	@$(BIN)/python docs/write_tables.py

# Needs uv. One lock for Python 3.11 to 3.13.
lock:
	uv pip compile --universal --python-version 3.11 --extra cluster --extra heif --extra history --extra hub --extra int8 --extra remote --extra serve --extra test --no-header --no-annotate pyproject.toml -o requirements.lock

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	{ echo "$(PYTHON) is not Python 3.11 to 3.13; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv; the first time takes some minutes"
ifeq ($(TORCH),cpu)
	@$(BIN)/python -m pip install --quiet --index-url https://download.pytorch.org/whl/cpu "$$(grep '^torch==' requirements.lock)"
endif
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(INSTALLED)
