"""Whole runs against APIs that behave in every way that is known or feared.

A world is an account, the options of the mock API and the settings of the runs; each run
continues from the state of the one before. Each record must be there exactly once, or its
device must fail with one clear line and exit code 1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import (
    Run,
    assert_complete,
    assert_isolated,
    at,
    cells,
    choices,
    failures,
    row,
    run,
    table,
)

from mock_api import Account, Fault, MockAPI, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mock_api.faults import Kind


START = datetime(2020, 8, 3, tzinfo=timezone.utc)
DAYS = 14
ALL = {"lookback_minutes": 10_000_000}
"""Settings of a run that reads all rows again."""
STEADY = {"end_date": "2021-01-01T00:00:00.000Z"}
"""Faults and caches depend on the URL, so the end must not be the current time."""
LATE = {"start_date": "2020-08-15T12:00:00.000Z"}
MIDDLE = {"start_date": "2020-08-07T08:00:00.000Z", "end_date": "2020-08-11T20:00:00.000Z"}
ROWS = r"^/v1/analytics/(tableau/)?W[^/]*/"


@dataclass(frozen=True)
class World:
    """An account, an API, the runs, and which errors are allowed.

    Attributes:
        account: The data.
        options: Those of the mock API.
        runs: The settings of each run.
        errors: A pattern of the errors with which a device may fail.
        failing: Devices that must fail with such an error.
        forget: Whether the caches of the API run out between two runs.
    """

    account: Account
    options: dict[str, Any]
    runs: Sequence[dict[str, Any]] = ({},)
    errors: str | None = None
    failing: tuple[str, ...] = ()
    forget: bool = False

    def rows(self, api: MockAPI, settings: dict[str, Any]) -> tuple[Any, Any]:
        """The rows that a run must emit, and those that it may emit, of what is visible."""
        offset = timedelta(hours=self.options.get("range_offset_hours", 0))
        floor = self.options.get("round_bounds", "").startswith("floor")
        first = _moment(settings.get("start_date", "2001-09-09T00:00:00.000Z")) - offset
        last = _moment(settings.get("end_date", "2026-01-01T00:00:00.000Z")) - offset
        known = [(_moment(r["timestamp"]), r) for r in api.truth()]
        # Rows after the last whole second that such an API serves follow in the next run.
        until = last.replace(microsecond=0) if floor else last
        since = first - timedelta(seconds=floor)
        return (
            cells(r for when, r in known if first <= when <= until),
            cells(r for when, r in known if since <= when <= last),
        )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def data(devices: int = 2, rows: int = 333, **more: Any) -> Account:
    return Account.generate(devices=devices, rows=rows, seed=5, **more)


def changing(*, late: bool) -> Account:
    """An account in which a row arrives with each of many requests, late or newest."""
    account, random = data(rows=335), Random(7)
    for device_id in [*account.devices]:
        for number in range(60):
            seconds = DAYS * 86_400 * (random.random() if late else 1) + number
            values = row(device_id, seconds, frame_number=number)
            moment = START + timedelta(seconds=seconds)
            values["timestamp"] = f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"
            account.add(device_id, [Row(values, after_requests=3 + number)])
    return account


def milliseconds() -> Account:
    """An account in which no timestamp is a whole second."""
    return Account(
        {
            name: [Row(row(name, 0.137 * i + 0.003, frame_number=i)) for i in range(600)]
            for name in ("Wa", "Wb")
        }
    )


def worlds() -> Iterator[tuple[str, World]]:
    yield from limits()
    yield from totals()
    yield from lies()
    yield from caches()
    yield from clocks()
    yield from calm()


def limits() -> Iterator[tuple[str, World]]:
    few = {"page_size": 20, "max_rows": 100}
    for total, beyond in product(choices("max_rows_total"), choices("beyond_max_rows")):
        options = {**few, "max_rows_total": total, "beyond_max_rows": beyond}
        yield f"{total}-{beyond}", World(data(), options)
    capped = {**few, "max_rows_total": "capped", "beyond_max_rows": "400"}
    for order in ("descending", "stable-ties"):
        yield f"capped-400-{order}", World(data(), {**capped, "order": order})
    dense = data(1, 600, rows_per_second=150)  # more rows per second than are served
    yield "capped-400-dense", World(dense, capped, errors="fills its last page")


def totals() -> Iterator[tuple[str, World]]:
    for total in ("floor", "low", "zero", "first-page", "string", "float"):
        yield f"total-{total}", World(data(), {"page_size": 20, "total": total})
    for total in ("device", "zero"):
        options = {"page_size": 20, "total": total}
        account = data(1, 1800)
        yield (
            f"total-{total}-part",
            World(account, options, [LATE], errors="cannot be read in parts"),
        )
    options = {"page_size": 20, "total_cache_seconds": 60}
    fixed = {"end_date": "2020-08-18T00:00:00.000Z", **ALL}
    yield "total-cached-late", World(changing(late=True), options, [fixed, fixed])
    yield "total-cached-new", World(changing(late=False), options, [ALL, ALL])


def lies() -> Iterator[tuple[str, World]]:
    kinds: list[Kind] = ["errors_and_no_data", "timed_out_half", "swallowed"]
    for kind, total in product(kinds, ("present", "missing")):
        options: dict[str, Any] = {"page_size": 50, "total": total}
        settings: dict[str, Any] = {**STEADY, "concurrency": 1}
        # Never twice in a row for the same page: that cannot be told from the end.
        options["faults"] = [
            Fault(kind=kind, where=ROWS, start=n, until=n) for n in range(2, 200, 7)
        ]
        yield f"{kind}-{total}", World(data(3), options, [settings])
    for first in (0, 4):
        account = data(8, 200)
        failing = tuple([*account.devices][first : first + 3])
        faults = [Fault(kind="status_500", where=f"/({'|'.join(failing)})/")]
        world = World(account, {"page_size": 100, "faults": faults}, errors="500", failing=failing)
        yield f"outage-{first}", world
    for form in choices("empty_form")[1:]:
        yield (f"empty-{form}", World(data(8, 200), {"page_size": 70, "empty_form": form}))
    yield "sessions-null", World(data(), {"page_size": 100, "session_form": "null"})


def caches() -> Iterator[tuple[str, World]]:
    for count, size in ((3, 20), (1, 20), (1, 100), (7, 100)):
        expiring = {"cache_seconds": 300, "page_size": size, "expire_per_request": count}
        yield f"cache-expire-{count}-{size}", World(data(rows=335), expiring)
    for late, order in product((True, False), ("ascending", "descending")):
        options: dict[str, Any] = {"cache_seconds": 300, "page_size": 20, "order": order}
        world = World(changing(late=late), options, [ALL, ALL], forget=True)
        yield f"cache-{'late' if late else 'new'}-{order}", world
    yield "expire", World(data(rows=335), {"page_size": 20, "expire_per_request": 3})
    yield "late", World(changing(late=True), {"page_size": 20}, [ALL, ALL])


def clocks() -> Iterator[tuple[str, World]]:
    for hours, name in product((2, 25, -2), ("part", "all")):
        options: dict[str, Any] = {"page_size": 100, "range_offset_hours": hours}
        errors = "timestamps after the end of the requested range" if hours < 0 else None
        runs = [MIDDLE] if name == "part" else [{}]
        yield f"offset-{hours}-{name}", World(data(), options, runs, errors=errors)
    part = {"start_date": at(16.5), "end_date": at(65.7)}
    for size, name in product((20, 1000), ("part", "all")):
        options = {"page_size": size, "round_bounds": "floor-second"}
        runs = [part, {}] if name == "part" else [{}]
        yield f"floor-{size}-{name}", World(milliseconds(), options, runs)
    options = {"page_size": 20, "round_bounds": "floor-second", "max_pages": 5}
    yield "floor-max-pages", World(milliseconds(), options)


def calm() -> Iterator[tuple[str, World]]:
    for order, size in product(("stable-ties", "descending-stable-ties"), (100, 70)):
        account = data(2, 500, rows_per_second=100)
        options = {"page_size": size, "order": order}
        yield f"{order}-{size}", World(account, options)
    for option in ("order", "bounds", "round_bounds", "past_end", "tableau_form"):
        for choice in choices(option):
            options = {"page_size": 70, option: choice}
            form = "tableau" if option == "tableau_form" else "size_optimized"
            world = World(data(3), options, [{"response_format": form}])
            yield f"calm-{option}-{choice}", world
    for total in ("missing", "null"):
        yield f"calm-total-{total}", World(data(3), {"page_size": 70, "total": total})
    yield "calm-large", World(data(2, 6_000), {"page_size": 1000})
    for total in ("present", "missing"):
        options = {"page_size": 20, "total": total}
        account = data(2, 240, rows_per_second=60)
        yield f"calm-dense-{total}", World(account, options)
    runs = [{"end_date": MIDDLE["start_date"]}, LATE, {}]
    yield "later-start-date", World(data(), {"page_size": 100}, runs)


@pytest.mark.parametrize("world", [pytest.param(world, id=name) for name, world in worlds()])
def test_world(world: World) -> None:
    runs: list[Run] = []
    may = Counter[Any]()
    with MockAPI(world.account, **world.options) as api:
        for settings in world.runs:
            if world.forget:
                api.state._cache.clear()
            before, maybe_before = world.rows(api, settings)
            runs.append(run(api, state=runs[-1].state if runs else None, **settings))
            after, maybe_after = world.rows(api, settings)
            loaded = cells(table(*runs).values())
            may |= maybe_before | maybe_after
            errors = failures(runs[-1])
            failed = {name.split("'")[1] for name in errors}
            assert failed >= {*world.failing}
            if errors:
                assert world.errors is not None, errors
                assert all(re.search(world.errors, e) for e in errors.values()), errors
            must = before & after
            lost = [row for row in must - loaded if dict(row)["device_id"] not in failed]
            assert not lost, f"{len(lost)} of {len(must)} lost: {lost[0]}"
            extra = loaded - may
            assert not extra, f"{extra.total()} invented: {next(iter(extra))}"


def dense(devices: int, rows: int) -> Account:
    """An account with a row per second, so that no instant is ambiguous."""
    names = [f"W{number:02}" for number in range(devices)]
    return Account({n: [Row(row(n, second)) for second in range(rows)] for n in names})


def requests(api: MockAPI, device_id: str = "W") -> int:
    """The number of requests for rows."""
    return sum(f"/{device_id}" in exchange.path for exchange in api.requests)


@pytest.mark.parametrize("pages", [2, 3, 10, 40])
def test_a_calm_window_takes_two_requests_more_than_pages(pages: int) -> None:
    with MockAPI(dense(1, 20 * pages - 7), page_size=20) as api:
        assert run(api).code == 0
        assert requests(api) == pages + 2


def test_a_device_without_new_rows_takes_one_request() -> None:
    with MockAPI(dense(40, 20), page_size=1000) as api:
        state = run(api).state
        asked = requests(api)
        again = run(api, state=state, lookback_minutes=0, concurrency=1)
        assert len(again.records()) == 40
        # Page 2 must be empty until one row is shown to be less than a page.
        assert requests(api) - asked <= 40 + 20


@pytest.mark.parametrize("kind", ["status_500", "status_502", "status_503", "status_504"])
def test_an_outage_takes_few_requests(kind: Kind) -> None:
    faults = [Fault(kind=kind, where="/W01/")]
    with MockAPI(dense(4, 300), page_size=20, faults=faults) as api:
        assert_isolated(run(api), "W01")
        assert 9 <= requests(api, "W01/") <= 60


def test_a_serial_backend_is_not_asked_in_vain() -> None:
    asked = []
    for concurrency in (1, 4):
        # At ten times the speed of a backend with 0.4 s and a gateway with 1 s.
        account = data(5, 600)
        with MockAPI(account, page_size=100, serial_seconds=0.04, gateway_timeout=0.1) as api:
            result = run(api, concurrency=concurrency, speed=10)
            assert_complete(api, result)
            asked.append(requests(api))
    assert asked[1] <= 3 * asked[0]
