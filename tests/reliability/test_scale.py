"""Many devices and long histories: memory, STATE and requests are bounded."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mock_api import Account, Fault, MockAPI
from reliability.runs import EVERY_WINDOW, command, run

if TYPE_CHECKING:
    from pathlib import Path

    from mock_api.faults import Kind

MEGABYTE = 2**20

FULL_LENGTH = [
    pytest.mark.soak,
    pytest.mark.skipif("SOAK" not in os.environ, reason="takes long: make soak"),
]


def peak_of(path: Path) -> int:
    """The peak of memory that a process wrote down, in bytes."""
    _, kilobytes, _ = path.read_text(encoding="ascii").split()
    return int(kilobytes) * 1024


@pytest.mark.parametrize(
    ("devices", "rows"),
    [(1_000, 3), (10_000, 3)],
)
@pytest.mark.timeout(1200)
def test_work_and_state_are_linear_in_devices(
    devices: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEAK_MEMORY", str(tmp_path / "peak"))
    with MockAPI(Account.generate(devices=devices, rows=rows)) as api:
        result = run(
            api,
            constants={"api.pagination.MAX_PAGES": 100},
            concurrency=16,
            timeout=1200,
        )
        assert (result.code, result.err) == (0, "")
        assert len(api.requests) == devices + 2
        assert len(result.records()) == len(api.truth())
    states = [
        line
        for line in result.out.splitlines(keepends=True)
        if line.startswith(b'{"type":"STATE"')
    ]
    assert states
    assert sum(map(len, states)) < 20 * MEGABYTE * devices / 10_000 + MEGABYTE
    assert peak_of(tmp_path / "peak") < 300 * MEGABYTE


def read_long_history(rows: int, path: Path) -> tuple[int, Counter[bytes]]:
    """Read one device; return the peak of memory, and the number of messages by type."""
    path.unlink(missing_ok=True)
    found: Counter[bytes] = Counter()
    ids = set()
    with (
        MockAPI(Account.generate(devices=1, rows=rows)) as api,
        command(api, constants=EVERY_WINDOW) as (arguments, env),
        subprocess.Popen(
            arguments,
            env=env | {"PEAK_MEMORY": str(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            kind = line.split(b'"', 4)[3]
            found[kind] += 1
            if kind == b"RECORD" and b'"record_id":"' in line:
                _, _, rest = line.partition(b'"record_id":"')
                ids.add(int(rest[:15], 16))
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert len(ids) == rows
    return peak_of(path), found


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (300_000, 900_000),
        pytest.param(300_000, 3_000_000, marks=FULL_LENGTH),
    ],
)
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_the_history(
    short: int, long: int, tmp_path: Path
) -> None:
    peaks = []
    for rows in (short, long):
        peak, found = read_long_history(rows, tmp_path / "peak")
        assert found[b"RECORD"] == rows + 1 + len(
            Account.generate(devices=1, rows=rows).session_ids()
        )
        assert found[b"STATE"] > rows / 200_000  # the rows of the largest window
        peaks.append(peak)
    assert max(peaks) < 300 * MEGABYTE
    assert peaks[1] < peaks[0] * 1.25, peaks


@pytest.mark.parametrize("kind", ["bomb", "endless"])
@pytest.mark.parametrize("where", ["devices", "analytics"])
def test_an_endless_body_takes_bounded_memory(
    kind: Kind, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEAK_MEMORY", str(tmp_path / "peak"))
    fault = Fault(kind=kind, where=where)
    with MockAPI(Account.generate(devices=1), faults=(fault,)) as api:
        result = run(api, constants={"api.pagination.MAX_PAGES": 100})
    assert result.code == 1
    assert "64 MiB" in result.err
    assert peak_of(tmp_path / "peak") < 300 * MEGABYTE
