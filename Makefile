# Everything runs from the checkout and leaves only git-ignored folders behind: .venv, .venv-numpy1, .links.
PYTHON ?= python3
TEST_WORKERS ?= 2
QUICKSTART_OUTPUT ?= quickstart-output
REPORT_OUTPUT ?= report-output
REPORT_OPTIONS ?= --threads 2 --seconds 60
# requirements/ci.lock has the same versions with hashes, for Linux on x86-64 with Python 3.11: what CI installs
REQUIREMENTS ?= requirements/ci.txt
FUZZ_SECONDS ?= 60

PIP := -m pip --disable-pip-version-check --quiet
READY := .venv/.ready
READY_NUMPY1 := .venv-numpy1/.ready

# Benchmarks of accuracy, those that need a data set or hours of their own or are started by another, and all others: of
# speed.
ACCURACY := accuracy golden_parity onnx_precisions tflite_precisions coreml_precisions
BY_HAND := ablations browser coco80 dying_run engine_parity kept kills leaks panoptic rtsp_delay soak
SPEED := $(filter-out $(ACCURACY) $(BY_HAND), $(basename $(notdir $(wildcard benchmarks/*.py))))

FUZZ := manifest pickle checkpoint rle coco labelme stream mil tflite onnx picture

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart report test test-quick test-numpy1 lint types fuzz browser bench accuracy links clean

help: ## Say what can be made
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Create .venv with everything development needs

$(READY): $(REQUIREMENTS) pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make needs Python 3.11 or newer for its pinned tools; point to one with: make PYTHON=/path/to/python3.11")'
	@test -x .venv/bin/python || { echo "creating .venv"; "$(PYTHON)" -m venv .venv; }
	@echo "installing PyTorch into .venv (the largest part; minutes the first time)"
	@.venv/bin/python $(PIP) install "$$(grep '^torch==' requirements/ci.txt)"
	@echo "installing the other requirements"
	@.venv/bin/python $(PIP) install -r $(REQUIREMENTS)
	@.venv/bin/python $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(READY_NUMPY1): requirements/numpy1.txt pyproject.toml
	@test -x .venv-numpy1/bin/python || { echo "creating .venv-numpy1"; "$(PYTHON)" -m venv .venv-numpy1; }
	@echo "installing the runtime with numpy 1.26 into .venv-numpy1"
	@.venv-numpy1/bin/python $(PIP) install -r requirements/numpy1.txt
	@.venv-numpy1/bin/python $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: $(READY) ## Convert, verify, evaluate and segment with the bundled model; ends with a report to open
	@.venv/bin/solov2-edge quickstart --output "$(QUICKSTART_OUTPUT)"

report: $(READY) ## Convert the bundled model to every precision, measure all; prints the README's table of precisions
	@.venv/bin/python -m solov2_edge.report_table --output "$(REPORT_OUTPUT)" --images tests/data/nuclei_val/images \
		--annotations tests/data/nuclei_val/instances.json $(REPORT_OPTIONS)

test: $(READY) test-numpy1 ## Run all tests, the runtime's also under numpy 1.26
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist worksteal

test-quick: $(READY) ## Run the tests that take less than about ten seconds each
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m "not slow"

test-numpy1: $(READY_NUMPY1) ## Run the tests of the runtime and the demos without torch, under numpy 1.26
	OMP_NUM_THREADS=1 .venv-numpy1/bin/python -m pytest -n $(TEST_WORKERS) --dist worksteal tests/runtime tests/demos

lint: $(READY) ## Check style and formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(READY) links ## Check types, strictly
	.venv/bin/python -m mypy -p solov2_edge
	.venv/bin/python -m mypy --explicit-package-bases tests/runtime tests/demos tests/test_cli.py tests/test_layout.py

fuzz: $(READY) ## Fuzz every parser with atheris, FUZZ_SECONDS each
	@.venv/bin/python $(PIP) install atheris==3.0.0
	@for name in $(FUZZ); do echo "== $$name"; .venv/bin/python fuzz/run.py "$$name" --seconds $(FUZZ_SECONDS) || exit 1; done

browser: $(READY) ## Segment in the browser itself: fetches onnxruntime-web with npm, then serves the page
	@.venv/bin/solov2-edge browser --install
	@.venv/bin/solov2-edge browser

bench: $(READY) ## Time what speed promises are made of; each prints its ratios
	@for name in $(SPEED); do echo "== benchmarks/$$name.py"; .venv/bin/python "benchmarks/$$name.py" || exit 1; done

accuracy: $(READY) ## Measure what accuracy promises are made of, in every format
	@for name in $(ACCURACY); do echo "== benchmarks/$$name.py"; .venv/bin/python "benchmarks/$$name.py" || exit 1; done

links: ## Build .links/, the tree as it is imported, for mypy and editors
	@rm -rf .links && mkdir -p .links/solov2_edge
	@cd .links/solov2_edge && ln -s ../../solov2_edge/* ../../converters ../../runtime ../../demos .

clean: ## Remove what the other targets made
	rm -rf .venv .venv-numpy1 .links quickstart-output report-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
