# Loaders, emulated warehouses and the scheduler, each in an environment of its own with the
# Python it needs: some of them exclude each other, and none is needed for the tap.

loaders := target-jsonl target-postgres target-snowflake target-bigquery local-bigquery
schedulers := airflow kubernetes-validate

python-of-local-bigquery := 3.13

.PHONY: test-warehouses test-scheduler

test-warehouses: .venv/.ready $(loaders:%=.venvs/%/.ready) ## Load real and emulated warehouses
	$(bin)/pytest --numprocesses auto tests/warehouses -rs

test-scheduler: .meltano/.ready $(schedulers:%=.venvs/%/.ready) ## Run the examples for Airflow and Kubernetes
	$(bin)/pytest tests/scheduler -rs

# All that is installed is in the file: what a package asks for beyond it is not needed here.
# Pythons of pyenv are found only if they are switched on.
define build-environment
	@if PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | sort -r -V | paste -s -d: -) \
	$(bin)/uv venv --quiet --clear --python $(or $(python-of-$*),3.11) .venvs/$*; then \
	$(bin)/uv pip install --quiet --no-deps --python .venvs/$* --requirements $< && touch $@; \
	else echo "Python $(or $(python-of-$*),3.11) is not at hand: what needs $* is skipped."; fi
endef

.venvs/%/.ready: tests/warehouses/requirements/%.txt | .venv/.ready
	$(build-environment)

.venvs/%/.ready: tests/scheduler/requirements/%.txt | .venv/.ready
	$(build-environment)
