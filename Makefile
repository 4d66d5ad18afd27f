# All dependencies are installed into the clone (.venv, .meltano), on demand. Paths are
# relative, because the path of the clone can contain spaces.

PYTHON ?= python3

bin := .venv/bin
export MELTANO_CLI_DISABLE_VERSION_CHECK = 1
# If Python is set to write no bytecode, every start would compile everything again.
export UV_COMPILE_BYTECODE = 1
export XDG_STATE_HOME = $(CURDIR)/.meltano/state
export MPLCONFIGDIR = $(CURDIR)/.meltano/matplotlib

.DELETE_ON_ERROR:
.PHONY: help demo test lint types tests bench soak clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 20

demo: .meltano/.ready ## Load synthetic data into PostgreSQL and check them; KEEP=1 leaves the database running
	@mkdir -p build
	TMPDIR="$(CURDIR)/build" $(bin)/python -m demo $(if $(KEEP),--keep)

test: lint types tests ## Check style and types, and run all tests

lint: .venv/.ready
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/lint-imports --no-cache --no-logo

types: .venv/.ready
	$(bin)/mypy $(wildcard tap_unleash mock_api demo tests benchmarks scripts)

tests: .meltano/.ready
	$(bin)/pytest --numprocesses auto

bench: .venv/.ready ## Measure this tap against the alternatives
	$(bin)/python -m benchmarks

soak: .venv/.ready ## Run many more randomized scenarios: SOAK=1000
	SOAK=$(or $(SOAK),1000) $(bin)/pytest -m soak --numprocesses auto --timeout 0

clean: ## Remove everything that was installed or built
	rm -rf .venv .venvs .meltano .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis \
	build dist output

$(bin)/uv: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	"Python 3.10 or later is needed, not " + sys.version.split()[0] + ": make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

.venv/.ready: $(bin)/uv pyproject.toml constraints.txt
	$(bin)/uv pip install --quiet --python .venv --constraint constraints.txt --editable . --group dev
	@touch $@

.meltano/.ready: .venv/.ready meltano.yml
	$(bin)/meltano --environment mock install
	@touch $@

include $(wildcard mk/*.mk)
