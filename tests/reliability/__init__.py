"""No record is lost or duplicated, whatever the network, the data and the machine do."""

from __future__ import annotations
