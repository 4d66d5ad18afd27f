"""This tap against the alternatives: one command, a table and a picture."""

from __future__ import annotations
