"""The commands of the README and the pages, run as they are pasted into an empty folder.

The folder contains a clone of the repository. Only the token and the URLs are replaced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import psycopg
import pytest
from programs import run
from psycopg.rows import dict_row

from demo.pipeline import ROOT, compare
from demo.postgres import postgres
from demo.postgres import programs as postgresql
from mock_api import Account, MockAPI, Row
from scripts.hub_definition import PIP_URL

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "meltano.yml"),
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("examples/*/*.*")),
    ]
}
PROGRAMS = Path(sys.executable).parent
TOKEN = "ul_pat_mock"  # noqa: S105
RUN_ELSEWHERE = {
    "airflow": "test-scheduler runs the DAG, with Airflow",
    "docker": "needs a daemon; hadolint checks the files",
    "kubectl": "needs a cluster; test-scheduler checks the manifest and runs its command",
    "make": "make runs the demo and these tests",
    ".venv/bin/python -m": "does not end; test_docs starts each of them",
    "meltano run tap-unleash target-snowflake": "test-warehouses has an emulator",
    "meltano run tap-unleash target-bigquery": "test-warehouses has an emulator",
}
"""Commands whose blocks are not run here, with the reasons."""

pytestmark = pytest.mark.timeout(600)


def blocks(page: str, language: str = "sh") -> list[str]:
    """The blocks of a page, without those that run elsewhere."""
    elsewhere = "|".join(map(re.escape, RUN_ELSEWHERE))
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", TEXTS[page], re.DOTALL | re.MULTILINE)
    texts = [dedent(text) for _, text in found]
    return [t for t in texts if not re.search(rf"^(?:{elsewhere})\b", t, re.MULTILINE)]


@dataclass(frozen=True)
class Servers:
    """A mock API, and a database whose time zone is not UTC."""

    api: MockAPI
    database: str
    programs: Path

    def paste(self, folder: Path, *pasted: str) -> str:
        """Run blocks in one shell; return what they print."""
        script = "\n".join(pasted).replace("ul_pat_…", TOKEN)
        address = self.database.removeprefix("postgresql://")
        script = script.replace("user:password@host:5432/db", address)
        path = [self.programs / "bin", PROGRAMS, postgresql(), os.environ["PATH"]]
        foreign = ("MELTANO_", "PG", "PYTHON", "TAP_", "TARGET_", "VIRTUAL_ENV")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.startswith(foreign)}
            | {
                "MELTANO_CLI_DISABLE_VERSION_CHECK": "1",
                "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
                "NO_COLOR": "1",
                "PATH": ":".join(map(str, path)),
                "TAP_UNLEASH_API_URL": self.api.url,
                "UV_CONSTRAINT": str(self.programs / "constraints.txt"),
                "UV_TOOL_BIN_DIR": str(self.programs / "bin"),
                "UV_TOOL_DIR": str(self.programs / "tools"),
                "XDG_STATE_HOME": str(self.programs),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def assert_loaded(self) -> None:
        """Check that the table has exactly the rows of the API."""
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            rows = connection.execute("SELECT * FROM unleash.analytics").fetchall()
            assert compare(self.api.truth(), rows) == (0, 0)
            connection.execute("DROP SCHEMA unleash CASCADE")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with postgres() as database, MockAPI(Account.generate(), api_key=TOKEN) as api:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER DATABASE postgres SET timezone TO 'Australia/Sydney'")
        programs = tmp_path_factory.mktemp("programs")
        # The variable holds a list, separated by spaces: the clone's path can have some.
        shutil.copy(ROOT / "constraints.txt", programs)
        yield Servers(api, database, programs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds only a clone."""
    (tmp_path / "tap-unleash").symlink_to(ROOT)
    return tmp_path


def records(file: Path) -> int:
    return file.read_text().count('"stream":"analytics","record"')


def test_readme_loads_postgresql_from_nothing(servers: Servers, folder: Path) -> None:
    printed = servers.paste(folder, *blocks("README.md"))
    assert '"record": {' in printed
    servers.assert_loaded()


def test_guides_work_in_the_project_of_the_quickstart(servers: Servers, folder: Path) -> None:
    page = "docs/quickstart.md"
    printed = servers.paste(folder, *blocks(page))
    (result,) = blocks(page, "text")
    assert result in re.sub(r" +$", "", printed, flags=re.MULTILINE)
    project, secrets = folder / "unleash-live", blocks(page)[2]
    secrets = "".join(re.findall(r"^export .*\n", secrets, re.MULTILINE))
    guides = ("incremental.md", "selection.md")
    for guide in (*(f"docs/guides/{name}" for name in guides), "docs/reference/errors.md"):
        printed = servers.paste(project, secrets, *blocks(guide))
    assert printed == ""  # no error is found in the log
    total, new = (records(project / f"{n}.jsonl") for n in ("detections", "new"))
    assert 0 < new < total == len(servers.api.truth())
    assert (project / "selected.jsonl").exists()
    assert '"!api_version.*"' in (project / "meltano.yml").read_text().replace("'", '"')
    servers.assert_loaded()


def test_the_reason_of_a_failed_run_is_found(servers: Servers, folder: Path) -> None:
    project = folder / "unleash-live"
    project.mkdir()
    (project / "meltano.yml").write_text(TEXTS["examples/warehouses/postgres.yml"])
    errors = blocks("docs/reference/errors.md")
    secrets = ["export TAP_UNLEASH_API_KEY=wrong", "meltano install"]
    printed = servers.paste(project, *secrets, *errors)
    assert "tap-unleash: Authentication failed (HTTP 403 Forbidden)." in printed
    secrets[0] = "export TAP_UNLEASH_API_KEY=ul_pat_…"
    printed = servers.paste(project, *secrets, *errors)
    assert "Need either the sqlalchemy_url to be set or" in printed


@pytest.mark.parametrize("page", ["postgres", "jsonl"])
def test_project_of_a_destination(servers: Servers, folder: Path, page: str) -> None:
    project = folder / "unleash-live"
    project.mkdir()
    page = f"docs/destinations/{page}.md"
    script, *first_load = blocks(page)
    if first_load:
        names = "meltano run tap-unleash target-postgres\n"
        servers.paste(project, script.replace(names, first_load[0]), names)
        servers.assert_loaded()
    else:
        # The target needs older versions than those of the tap.
        servers.paste(project, "unset UV_CONSTRAINT\n", script)
        (file,) = (project / "output").glob("analytics-*.jsonl")
        assert len(file.read_text().splitlines()) == len(servers.api.truth())


def test_tap_reads_the_mock_api_of_the_page(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (script,) = blocks("docs/guides/fault-injection.md")
    script = script.replace("http://127.0.0.1:8000/v1", servers.api.url)
    servers.paste(tmp_path, script.replace("API_KEY=mock", f"API_KEY={TOKEN}"))
    assert records(tmp_path / "detections.jsonl") == len(servers.api.truth())


def test_the_tap_is_installed_from_one_place() -> None:
    """As long as the tap is not on PyPI, nobody is told to install its name from there."""
    for path, text in TEXTS.items():
        for source in re.findall(r"pip(?:x| tool)? install ([^-\s]\S*tap-[\w-]+)", text):
            assert source == f".{PIP_URL[2:]}", path
        for source in re.findall(r"pip_url: (\S*tap-unleash\S*)", text):
            assert source == PIP_URL, path


def test_samples_are_records_of_the_tap() -> None:
    """Of the row in the vendor's documentation."""
    (sample,) = map(json.loads, blocks("README.md", "json"))
    assert sample in map(json.loads, blocks("docs/reference/streams.md", "json"))
    row = {name: value for name, value in sample.items() if name != "record_id"}
    with MockAPI(Account({row["device_id"]: [Row(row)]})) as api:
        variables = {"TAP_UNLEASH_API_URL": api.url, "TAP_UNLEASH_API_KEY": "mock"}
        lines = run(PROGRAMS / "tap-unleash", "--config=ENV", cwd=ROOT, **variables).splitlines()
    assert sample in (json.loads(line).get("record") for line in lines)
