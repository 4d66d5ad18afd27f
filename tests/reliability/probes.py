"""Probes of mock APIs, without waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import mock_api.state
from reliability.runs import START
from scripts.probe.__main__ import run
from scripts.probe.asker import Asker
from tap_unleash.config import Config

if TYPE_CHECKING:
    from mock_api import MockAPI
    from scripts.probe.report import Report

NOW = int(START.timestamp() * 1000) + 90 * 86_400_000


class Clock:
    """A clock that only waiting advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def probe(api: MockAPI) -> Report:
    """Probe a mock API, whose rate limit has the same clock."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mock_api.state, "time", Time(clock))
        ask = Asker(api.url, "mock", clock=clock, sleep=clock.sleep)
        made = run(ask, config(api), None)
    assert len(made["requests"]) == len(api.requests) <= 60
    assert api.max_in_flight == 1
    return made


@dataclass(frozen=True)
class Time:
    monotonic: Clock


def config(api: MockAPI) -> Config:
    texts = {"api_key": "mock", "api_url": api.url, "response_format": "tableau"}
    numbers = {"lookback_minutes": 0, "concurrency": 1, "request_timeout": 1}
    return Config.parse({**texts, **numbers}, now=NOW)
