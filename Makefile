# Everything runs in .venv, which `make setup` fills once. Needs Python 3.11+ (with venv) and make, nothing else.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.geoseg-setup
TEST_WORKERS ?= 2
PYTHON ?=

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-24s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@grep -l __main__ benchmarks/*.py benchmarks/*/__main__.py | while read -r f; do \
	  n=$${f#benchmarks/}; n=$${n%/__main__.py}; n=$${n%.py}; \
	  if [ -d "benchmarks/$$n" ]; then f=benchmarks/$$n/__init__.py; fi; \
	  printf "  make %-24s %s\n" "bench-$$n" "$$(sed -n '1{s/^"""//;s/"""$$//;p;q;}' "$$f")"; done

setup: $(STAMP) ## Make .venv and install geoseg with its development tools

# Candidates are run, not only looked up: a pyenv shim exists for versions that are not installed, and Debian's
# python3 comes without ensurepip until python3-venv is there. An existing .venv that works is kept.
$(STAMP): pyproject.toml constraints.txt
	@set -e; ok='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$ok; import pip" >/dev/null 2>&1; then \
	  found=; \
	  for p in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	    if "$$p" -c "import venv, ensurepip; $$ok" >/dev/null 2>&1; then found=$$p; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "geoseg needs Python 3.11 or newer with the venv module, and none was found." >&2; \
	    echo "Debian, Ubuntu: apt-get install python3 python3-venv; or name one: make setup PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$found"; \
	  rm -rf $(VENV); "$$found" -m venv $(VENV); \
	fi
	@echo "Installing geoseg and its tools into $(VENV): some minutes, and 7 GB with the CUDA build of torch"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/geoseg doctor --quiet
	@touch $@

demo: $(STAMP) ## Run the main job on a sample scene; results in demo_output/
	@$(BIN)/python pipelines/demo.py

lint: $(STAMP) ## Style, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# pytest comes last, so that its summary is the last line.
test: lint ## Lint, then all tests with coverage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --cov

format: $(STAMP) ## Let ruff lay out and mend the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A benchmark is a file or a package in benchmarks/; ARGS passes options: make bench-memory ARGS="--sides 2000".
bench-%: $(STAMP)
	$(BIN)/python -m benchmarks.$* $(ARGS)

clean: ## Remove what can be made again, .venv included
	rm -rf $(VENV) demo_output build dist *.egg-info htmlcov .coverage .coverage.* coverage.xml \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
