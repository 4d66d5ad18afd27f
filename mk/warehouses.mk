# Targets, emulated warehouses and schedulers, each in its own environment with the Python
# that it needs: some exclude each other, and the tap needs none of them.

loaders := target-jsonl target-postgres target-snowflake target-bigquery local-bigquery
schedulers := airflow kubernetes-validate

python-of-local-bigquery := 3.13

.PHONY: test-warehouses test-scheduler

test-warehouses: .venv/.ready $(loaders:%=.venvs/%/.ready) ## Load real and emulated warehouses
	$(bin)/pytest --numprocesses auto tests/warehouses -rs

test-scheduler: .meltano/.ready $(schedulers:%=.venvs/%/.ready) ## Run the examples for Airflow and Kubernetes
	$(bin)/pytest tests/scheduler -rs

# The requirements are complete, so dependencies are not resolved. Pythons of pyenv are found
# only if they are enabled.
define build-environment
	@if PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | sort -r -V | paste -s -d: -) \
	$(bin)/uv venv --quiet --clear --python $(or $(python-of-$*),3.11) .venvs/$*; then \
	$(bin)/uv pip install --quiet --no-deps --python .venvs/$* --requirements $< && touch $@; \
	else echo "Python $(or $(python-of-$*),3.11) is not installed: tests that need $* are skipped."; fi
endef

.venvs/%/.ready: tests/warehouses/requirements/%.txt | .venv/.ready
	$(build-environment)

.venvs/%/.ready: tests/scheduler/requirements/%.txt | .venv/.ready
	$(build-environment)
