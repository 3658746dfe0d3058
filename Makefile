# make demo: set everything up, run the demo suite.   make test: set everything up, run all checks.
# make speed: the metrics' time and memory beside other packages', 10 minutes and 12 GB.
# An active virtual environment is used; otherwise .venv is made here.
PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
READY := $(VENV)/.bench-ready

.PHONY: demo test speed check format install clean

demo: $(READY)
	$(BIN)/bench run --suite demo
	@echo "run again: $(BIN)/bench run --suite demo    look at the images: $(BIN)/bench data sheet demo --out demo.png"

# a process a core, so torch needs no threads of its own
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

speed: $(READY)
	$(BIN)/python tests/perf/speed.py

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

install: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
