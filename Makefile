# Each target makes .venv and installs what it needs; nothing else has to be done by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-packages
DEV_STAMP := $(VENV)/.dev-packages
EXTRA_STAMP := $(VENV)/.extras

# Compiled modules are kept, whatever the environment says: each start of the fabric would compile hundreds anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test check crash picture bench demo clean
.DEFAULT_GOAL := run

$(RUN_STAMP): requirements.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(DEV_STAMP): $(RUN_STAMP) requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@

# Chromium, axe-core and azurite are for tests that say why they skip where the machine did not let them in.
$(EXTRA_STAMP): $(DEV_STAMP) tools/setup_extras.sh package.json
	sh tools/setup_extras.sh
	touch $@

setup: $(EXTRA_STAMP)

run: $(RUN_STAMP)
	$(BIN)/python run_complete_system.py

# Kernels are compiled first, which every worker would else do for itself. Three workers on two cores, for many tests
# wait; tests/conftest.py says in which order.
test: $(EXTRA_STAMP)
	$(BIN)/python -m tests.compiled
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

# SIGKILL of a separate process at every named point and at random times, on five pairs of stores; about half an hour.
crash: $(EXTRA_STAMP)
	$(BIN)/python tests/unit/migration/crash_matrix.py

picture: $(EXTRA_STAMP)
	FABRIC_SCREENSHOT=1 $(BIN)/python -m pytest -q tests/browser/test_real_engine.py -k picture

bench: $(EXTRA_STAMP)
	for script in tests/bench/bench_*.py; do echo "== $$script"; \
		PYTHONPATH=. $(BIN)/python $$script $$(grep -o -m1 -e "--quick" $$script) || exit 1; done

demo: $(RUN_STAMP)
	for n in 1 2 3 4 5 6; do $(BIN)/python demo_task$${n}_complete.py || exit 1; done

clean:
	rm -rf $(VENV) node_modules .mypy_cache .ruff_cache .pytest_cache
