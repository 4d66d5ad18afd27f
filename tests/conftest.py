from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """Whoever runs the tests may have an account, a project and a database of their own."""
    for name in list(os.environ):
        if name.startswith(("MELTANO_", "PG", "SINGER_SDK_", "TAP_UNLEASH_", "TARGET_")):
            del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    # Tests wait about half of their time, mostly for retries.
    return 2 * (os.cpu_count() or 1)
