# Questions to the live API.
.PHONY: probe

probe: .venv/.ready ## Ask the live API what its documentation leaves open; ARGS="--device ID"
	@$(bin)/python -m scripts.probe $(ARGS)
