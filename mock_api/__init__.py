"""The documented Unleash live Analytics API on localhost, with fault injection."""

from __future__ import annotations

from mock_api.account import Account, Row
from mock_api.faults import Fault
from mock_api.options import Options
from mock_api.server import MockAPI

__all__ = ["Account", "Fault", "MockAPI", "Options", "Row"]
