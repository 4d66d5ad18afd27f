"""Run the tap as a module: ``python -m tap_unleash``."""

from __future__ import annotations

from tap_unleash.tap import TapUnleash

TapUnleash.cli()
