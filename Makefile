# Everything here works with Python 3.11 or newer, make and the Python package index only. PYTHON: which one; else the first
# that runs and can make an environment.
PYTHON ?=
VENV   ?= .venv
BIN    := $(VENV)/bin

# Hundreds of processes are started: none should compile what another has compiled, or be changed by what somebody has set
# for a Python of theirs.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONIOENCODING PYTHONUTF8

.PHONY: demo test check format chaos bench clean constraints

# The environment is made again whenever the pins or the project's metadata change.
$(VENV)/.made: constraints.txt pyproject.toml
	@python=$$(sh .ci/find_python.sh "$(PYTHON)") && echo "$$python -m venv $(VENV)" && "$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r constraints.txt || { echo >&2 \
	  "make: pip did not get the packages (its words stand above): is an index within reach? PIP_INDEX_URL, proxies"; exit 1; }
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
