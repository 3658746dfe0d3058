# make demo: install what runs, run the demo suite, report it.   make test: install the tools as well, run all checks.
# make example: the committed report under reports/example, of the records in RECORDS (several folders may be named): those of
# make example-records, of two classes of MVTec AD and a half of Fashion-MNIST in DATA and of thresholds on the demo, and of make demo.
# make speed: the metrics' time and memory beside other packages', 10 minutes and 12 GB.
# make docs: the documentation as a site under build/site; warnings are errors.
# make gpu: what only a GPU shows, in pieces, 9 minutes; with BIN=DIR READY= by the Python in DIR as it is.
# An active virtual environment is used; otherwise .venv is made here.
PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
CHROMIUM ?= chromium
RECORDS ?= results/example results/runs
DATA ?= data
READY := $(VENV)/.bench-ready
# where the tools of development are, all that runs is
RUNS := $(or $(wildcard $(READY)),$(VENV)/.bench-runs)
SMALL := $(BIN)/bench run --suite small --data-root $(DATA) --results results/example
REAL := --datasets mvtec --classes bottle,screw

.PHONY: demo example example-records test docs speed gpu check format install clean

demo: $(RUNS)
	$(BIN)/bench run --suite demo --keep-maps
	$(BIN)/bench report --datasets demo --out reports/demo --format html,latex
	@if command -v pdflatex > /dev/null; then cd reports/demo/latex && for one in standalone/*.tex; do \
	  pdflatex -interaction=batchmode -halt-on-error $$one > /dev/null || echo "no PDF of $$one: see its log"; done; fi
	@echo "look at: reports/demo/report.html    the images: $(BIN)/bench data sheet demo --out demo.png"

# no maps and no model: the page is to hold numbers of MVTec AD, and none of its images
example-records: $(RUNS)
	$(SMALL) $(REAL) --methods knn
	$(SMALL) $(REAL) --methods patchcore,vitad,dinomaly --seeds 0,1,2
	$(SMALL) --datasets fmnist --splits A --methods rd4ad,simplenet
	$(SMALL) --datasets demo --methods patchcore --calibrate 0.2

example: $(RUNS)
	rm -rf reports/example
	$(BIN)/bench report $(addprefix --results ,$(RECORDS)) --datasets mvtec,fmnist,demo --out reports/example --format html,latex
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1.5 \
	  --window-size=1200,840 --screenshot=$(CURDIR)/reports/example/report.png file://$(CURDIR)/reports/example/report.html

# a process a core, so torch needs no threads of its own
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

speed: $(READY)
	$(BIN)/python tests/perf/speed.py

gpu: $(READY)
	$(BIN)/python tests/perf/gpu.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=tools $(BIN)/python -m mkdocs build --quiet
	@echo "look at: build/site/index.html"

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

install: $(READY)

$(VENV)/.bench-runs: WANTED := .
$(READY): WANTED := .[dev]
$(VENV)/.bench-runs $(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(WANTED)'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
