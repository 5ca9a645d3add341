# Everything here works with Python 3.11, make and the Python package index only.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin

# Hundreds of processes are started: none should compile what another has compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format chaos bench clean constraints

# The environment is made again whenever the pins or the project's metadata change.
$(VENV)/.made: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: $(VENV)/.made
	$(BIN)/python -m examples.demo

check: $(VENV)/.made
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.made
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Most tests wait for processes: more of them than cores go side by side. Those of one file share what they start.
test: check
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

chaos: $(VENV)/.made
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.made
	$(BIN)/python -m benchmarks

# New pins: `make constraints` resolves pyproject.toml anew (needs uv on PATH or in the environment).
constraints:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --extra dev --output-file constraints.txt --upgrade pyproject.toml constraints.in

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
