"""The demo: load a synthetic account into PostgreSQL with Meltano, and check every row."""

from __future__ import annotations


class DemoError(Exception):
    """Something is not as it should be, or a program failed; with its log."""
