# What the project is delivered with. Every tool here is a wheel with its program inside.
.PHONY: hub

hub:  ## Write the definition for Meltano Hub anew
	LOGLEVEL=ERROR .venv/bin/python -m scripts.hub_definition > hub/tap-unleash.yml
