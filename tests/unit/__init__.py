"""The pure modules alone."""

from __future__ import annotations
