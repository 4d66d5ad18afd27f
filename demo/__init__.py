"""The demo: load a synthetic account into PostgreSQL with Meltano, and check every row."""

from __future__ import annotations
