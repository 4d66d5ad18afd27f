"""Nothing lost, nothing doubled, whatever the network, the data and the machine do."""

from __future__ import annotations
