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
from textwrap import dedent
from typing import TYPE_CHECKING

import psycopg
import pytest
from programs import PROGRAMS, assert_serves, run
from psycopg.rows import dict_row

from demo.pipeline import ROOT, compare
from demo.postgres import postgres
from demo.postgres import programs as postgresql
from mock_api import Account, MockAPI, Row
from scripts.hub_definition import PIP_URL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "meltano.yml"),
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("examples/*/*.*")),
    ]
}
TOKEN = "ul_pat_mock"  # noqa: S105
COMMAND = "meltano run tap-unleash target-postgres"
RUN_ELSEWHERE = {
    "airflow": "test-scheduler runs the DAG, with Airflow",
    "docker": "needs a daemon; hadolint checks the files",
    "systemctl": "needs a running systemd; systemd-analyze checks the units",
    "kubectl": "needs a cluster; test-scheduler checks the manifest and runs its command",
    "make": "make runs the demo and these tests",
    ".venv/bin/python -m": "does not end; test_docs starts each of them",
    "uv run --no-project": "does not end; test_mock_api_starts_as_on_the_page starts it",
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
        script = script.replace("unset TAP_UNLEASH_API_URL\n", "")
        script = script.replace("http://127.0.0.1:8000/v1", self.api.url)
        script = script.replace("API_KEY=mock", f"API_KEY={TOKEN}")
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


def test_readme_extracts_a_sample(servers: Servers, folder: Path) -> None:
    (script,) = blocks("README.md")
    assert '"record_id":"' in servers.paste(folder, script)


def test_mock_api_starts_as_on_the_page(folder: Path) -> None:
    page = TEXTS["docs/get-started.md"]
    (command,) = re.findall(r"^uv run (?:.*\\\n)*.*$", page, re.MULTILINE)
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    assert_serves("bash", "-c", f"exec {command.replace('8000', '0')}", cwd=folder, PATH=path)


def test_pages_work_in_the_project_of_get_started(servers: Servers, folder: Path) -> None:
    page = "docs/get-started.md"
    printed = servers.paste(folder, *blocks(page))
    assert json.loads(blocks(page, "json")[0]) in samples(printed)
    (result,) = blocks(page, "text")
    assert result in re.sub(r" +$", "", printed, flags=re.MULTILINE)
    project = folder / "unleash-live"
    secrets = "".join(
        line + "\n"
        for line in TEXTS[page].splitlines()
        if re.match("export .*(?:ul_pat|TARGET)", line)
    )
    guides = ("incremental.md", "selection.md")
    for guide in (*(f"docs/guides/{name}" for name in guides), "docs/reference/errors.md"):
        printed = servers.paste(project, secrets, *blocks(guide))
    assert printed == ""  # no error is found in the log
    assert (project / "selected.jsonl").exists()
    analysis = [text for text in blocks("docs/guides/analyze.md") if "dbt " not in text]
    printed = servers.paste(project, secrets, *analysis)
    assert "person" in printed
    for name, source in (("report.html", "detections.jsonl"), ("sydney.html", "PostgreSQL")):
        assert f"Source: {source}." in (project / name).read_text()
    assert '"!api_version.*"' in (project / "meltano.yml").read_text().replace("'", '"')
    # The second sync of the pipe resumes from the state of the first.
    *_, sync = blocks("docs/guides/incremental.md")
    servers.paste(project, secrets, sync)
    state = json.loads((project / "state.json").read_text())
    assert len(state["bookmarks"]["analytics"]["partitions"]) > 1
    servers.assert_loaded()

    (first_load,) = blocks("docs/destinations/postgres.md")
    servers.paste(project, secrets, first_load, COMMAND)
    servers.assert_loaded()


def samples(printed: str) -> list[dict[str, str]]:
    """The record of the message that is printed over several lines."""
    messages = re.findall(r"^\{\n.*?^\}$", printed, re.DOTALL | re.MULTILINE)
    return [json.loads(message)["record"] for message in messages]


def test_schedules_run_the_command_of_get_started(tmp_path: Path) -> None:
    page = "docs/guides/production.md"
    (cron,) = blocks(page, "text")
    units = dict(text.removeprefix("# ").split("\n", 1) for text in blocks(page, "ini"))
    assert COMMAND in TEXTS["docs/get-started.md"]
    assert COMMAND in cron
    assert f"ExecStart=/usr/local/bin/{COMMAND}\n" in units["unleash.service"]
    for name, text in units.items():
        # The program is installed elsewhere here.
        (tmp_path / name).write_text(text.replace("/usr/local/bin/meltano", "/bin/true"))
    if verify := shutil.which("systemd-analyze"):
        subprocess.run([verify, "verify", *map(str, tmp_path.iterdir())], check=True)


def test_tap_reads_the_config_file_of_the_page(servers: Servers, tmp_path: Path) -> None:
    (config,) = blocks("docs/reference/settings.md", "json")
    (tmp_path / "config.json").write_text(config.replace("ul_pat_…", TOKEN))
    servers.paste(tmp_path, "tap-unleash --config config.json --config=ENV > detections.jsonl")
    (device,) = json.loads(config)["device_ids"]
    count = sum(row["device_id"] == device for row in servers.api.truth())
    assert 0 < records(tmp_path / "detections.jsonl") == count


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


def test_project_of_a_destination(servers: Servers, folder: Path) -> None:
    project = folder / "unleash-live"
    project.mkdir()
    (script,) = blocks("docs/destinations/jsonl.md")
    # The target needs older versions than those of the tap.
    servers.paste(project, "unset UV_CONSTRAINT\n", script)
    (file,) = (project / "output").glob("analytics-*.jsonl")
    assert len(file.read_text().splitlines()) == len(servers.api.truth())


def test_tap_reads_the_mock_api_of_the_page(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    servers.paste(tmp_path, *blocks("docs/guides/fault-injection.md"))
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
    (sample,) = map(json.loads, blocks("docs/reference/streams.md", "json"))
    row = {name: value for name, value in sample.items() if name != "record_id"}
    with MockAPI(Account({row["device_id"]: [Row(row)]})) as api:
        variables = {"TAP_UNLEASH_API_URL": api.url, "TAP_UNLEASH_API_KEY": "mock"}
        lines = run(PROGRAMS / "tap-unleash", "--config=ENV", cwd=ROOT, **variables).splitlines()
    assert sample in (json.loads(line).get("record") for line in lines)
