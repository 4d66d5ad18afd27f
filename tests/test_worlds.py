"""Whole runs against APIs that behave in every way that is known or feared.

A world is an account, the options of the mock API and the settings of the runs; each run
continues from the state of the one before. Each record must be there exactly once, or its
device must fail with one clear line and exit code 1.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import (
    Run,
    account,
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

from demo.pipeline import instant
from mock_api import Account, Fault, MockAPI, Row
from tap_unleash.rules import MIN_LAST

if TYPE_CHECKING:
    from mock_api.faults import Kind


FIRST = -1367 * 86_400
"""The second of the first row of `Account.generate()`, as `row()` counts them."""
ALL = {"lookback_minutes": 10_000_000}
"""Settings of a run that reads all rows again."""
STEADY = {"end_date": "2021-01-01T00:00:00.000Z"}
"""Faults and caches depend on the URL, so the end must not be the current time."""
LATE = {"start_date": "2020-08-15T12:00:00.000Z"}
MIDDLE = {"start_date": "2020-08-07T08:00:00.000Z", "end_date": "2020-08-11T20:00:00.000Z"}
ROWS = r"^/v1/analytics/(tableau/)?W[^/]*/"


class World:
    """An account, an API, the runs, and which errors are allowed."""

    def __init__(
        self,
        account: Account | None = None,
        *runs: dict[str, Any],
        errors: str | None = None,
        failing: tuple[str, ...] = (),
        forget: bool = False,
        **options: Any,
    ) -> None:
        """A small account, small pages and one run, unless others are given.

        The runs are given by their settings. `errors` is a pattern of the errors with which
        a device may fail; those that are `failing` must. `forget` says whether the caches of
        the API run out between two runs.
        """
        self.account = account or data()
        self.runs = runs or ({},)
        self.errors, self.failing, self.forget = errors, failing, forget
        self.options = {"page_size": 20, **options}

    def rows(self, api: MockAPI, settings: dict[str, Any]) -> tuple[Counter[Any], Counter[Any]]:
        """The rows that a run must emit, and those that it may emit, of what is visible."""
        offset = timedelta(hours=self.options.get("range_offset_hours", 0))
        floor = self.options.get("round_bounds", "").startswith("floor")
        first = instant(settings.get("start_date", "2001-09-09T00:00:00.000Z")) - offset
        last = instant(settings.get("end_date", "2026-01-01T00:00:00.000Z")) - offset
        known = [(instant(r["timestamp"]), r) for r in api.truth()]
        # Rows after the last whole second that such an API serves follow in the next run.
        until = last.replace(microsecond=0) if floor else last
        since = first - timedelta(seconds=floor)
        return (
            cells(r for when, r in known if first <= when <= until),
            cells(r for when, r in known if since <= when <= last),
        )


def data(devices: int = 2, rows: int = 333, **more: Any) -> Account:
    return Account.generate(devices=devices, rows=rows, seed=5, **more)


def changing(*, late: bool) -> Account:
    """An account in which a row arrives with each of many requests, late or newest."""
    made, random = data(rows=335), Random(7)
    for device_id in [*made.devices]:
        for number in range(60):
            days = 14 * random.random() if late else 14
            second = FIRST + int(days * 86_400) + number
            values = row(device_id, second, frame_number=number)
            made.add(device_id, [Row(values, after_requests=3 + number)])
    return made


def milliseconds() -> Account:
    """An account in which no timestamp is a whole second."""
    moments = [0.137 * i + 0.003 for i in range(600)]
    return Account({n: [Row(row(n, seconds)) for seconds in moments] for n in ("Wa", "Wb")})


def outage(first: int) -> World:
    devices = data(8, 200)
    failing = tuple([*devices.devices][first : first + 3])
    fault = Fault(kind="status_500", where=f"/({'|'.join(failing)})/")
    return World(devices, page_size=100, faults=(fault,), errors="500", failing=failing)


LIES: tuple[Kind, ...] = ("errors_and_no_data", "timed_out_half", "swallowed")
# Never twice in a row for the same page: that cannot be told from the end.
LYING = [
    tuple(Fault(kind=kind, where=ROWS, start=n, until=n) for n in range(2, 200, 7)) for kind in LIES
]
CAPPED: dict[str, Any] = {"max_rows": 100, "max_rows_total": "capped", "beyond_max_rows": "400"}
CHOICES: list[dict[str, Any]] = [
    {option: choice}
    for option in ("order", "bounds", "round_bounds", "past_end")
    for choice in choices(option)
]
PART = {"start_date": at(16.5), "end_date": at(65.7)}
AFTER = "timestamps after the end of the requested range"

WORLDS = [
    *(
        World(max_rows=100, max_rows_total=total, beyond_max_rows=beyond)
        for total, beyond in product(choices("max_rows_total"), choices("beyond_max_rows"))
    ),
    *(World(**CAPPED, order=order) for order in ("descending", "stable-ties")),
    # More rows per second than are served.
    World(data(1, 600, rows_per_second=150), **CAPPED, errors="fills its last page"),
    *(World(total=total) for total in choices("total")[1:] if total != "device"),
    *(
        World(data(1, 1800), LATE, total=total, errors="cannot be read in parts")
        for total in ("device", "zero")
    ),
    World(changing(late=True), STEADY | ALL, STEADY | ALL, total_cache_seconds=60),
    World(changing(late=False), ALL, ALL, total_cache_seconds=60),
    *(
        World(data(3), {**STEADY, "concurrency": 1}, page_size=50, total=total, faults=faults)
        for faults, total in product(LYING, ("present", "missing"))
    ),
    *map(outage, (0, 4)),
    *(World(data(8, 200), page_size=70, empty_form=form) for form in choices("empty_form")[1:]),
    World(session_form="null"),
    *(
        World(data(rows=335), cache_seconds=300, page_size=size, expire_per_request=count)
        for count, size in ((3, 20), (1, 20), (1, 100), (7, 100))
    ),
    *(
        World(changing(late=late), ALL, ALL, cache_seconds=300, order=order, forget=True)
        for late, order in product((True, False), ("ascending", "descending"))
    ),
    World(data(rows=335), expire_per_request=3),
    World(changing(late=True), ALL, ALL),
    *(
        World(data(), settings, page_size=100, range_offset_hours=hours, errors=errors)
        for (hours, errors), settings in product(((2, None), (25, None), (-2, AFTER)), (MIDDLE, {}))
    ),
    *(
        World(milliseconds(), *runs, page_size=size, round_bounds="floor-second")
        for size, runs in product((20, 1000), ((PART, {}), ({},)))
    ),
    World(milliseconds(), round_bounds="floor-second", max_pages=5),
    *(World(data(), MIDDLE, max_range_seconds=seconds) for seconds in (86_400, 20_000)),
    *(
        World(data(2, 500, rows_per_second=100), page_size=size, order=order)
        for order, size in product(("stable-ties", "descending-stable-ties"), (100, 70))
    ),
    *(World(data(3), page_size=70, **choice) for choice in CHOICES),
    *(World(data(2, 240, rows_per_second=60), total=total) for total in ("present", "missing")),
    World(data(), {"end_date": MIDDLE["start_date"]}, LATE, {}),
]


@pytest.mark.parametrize("world", WORLDS)
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


def requests(api: MockAPI, device_id: str = "W") -> int:
    """The number of requests for rows."""
    return sum(f"/{device_id}" in exchange.path for exchange in api.requests)


@pytest.mark.parametrize("pages", [2, 3, 10, 40])
def test_a_calm_window_takes_two_requests_more_than_pages(pages: int) -> None:
    with MockAPI(account(W=20 * pages - 7), page_size=20) as api:
        assert run(api).code == 0
        assert requests(api) == pages + 2


def test_a_device_without_new_rows_takes_one_request() -> None:
    with MockAPI(account(**{f"W{n}": 20 for n in range(40)})) as api:
        state = run(api).state
        asked = requests(api)
        again = run(api, state=state, lookback_minutes=0, concurrency=1)
        assert len(again.records()) == 40
        # Page 2 must be empty until one row is shown to be less than a page.
        assert requests(api) - asked <= 40 + 4 * MIN_LAST + 4


@pytest.mark.parametrize("kind", ["status_500", "status_502", "status_503", "status_504"])
def test_an_outage_takes_few_requests(kind: Kind) -> None:
    faults = [Fault(kind=kind, where="/W01/")]
    with MockAPI(account(W00=300, W01=300, W02=300), page_size=20, faults=faults) as api:
        assert_isolated(run(api), "W01")
        assert 9 <= requests(api, "W01/") <= 60


def test_a_serial_backend_is_not_asked_in_vain() -> None:
    asked = []
    for concurrency in (1, 4):
        # At five times the speed of a backend with 0.4 s and a gateway with 1 s.
        with MockAPI(data(3, 600), page_size=100, serial_seconds=0.08, gateway_timeout=0.2) as api:
            result = run(api, concurrency=concurrency, speed=5)
            assert_complete(api, result)
            asked.append(requests(api))
    assert asked[1] <= 3 * asked[0]
