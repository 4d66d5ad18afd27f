"""The documented Unleash live Analytics API on localhost, with faults to order."""

from __future__ import annotations

from sandbox.faults import Fault
from sandbox.options import Options
from sandbox.server import Sandbox
from sandbox.world import Row, World

__all__ = ["Fault", "Options", "Row", "Sandbox", "World"]
