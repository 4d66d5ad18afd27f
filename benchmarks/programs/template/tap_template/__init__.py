"""A tap made of the Singer SDK's template, as most taps are."""

from __future__ import annotations
