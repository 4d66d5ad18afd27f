"""The commands of the README and the pages, run as they are pasted into an empty folder.

The folder contains a clone of the repository. Only the token and the URLs are replaced.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import meltano.core.project
import psycopg
import pytest
import yaml
from psycopg.rows import dict_row
from reliability.runs import run

from demo.pipeline import ROOT, compare
from demo.postgres import postgres
from demo.postgres import programs as postgresql
from mock_api import Account, MockAPI, Row
from scripts.hub_definition import PIP_URL
from tap_unleash.config import PREFIX
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "meltano.yml"),
        *(ROOT / ".env.example", ROOT / "Dockerfile", ROOT / "Dockerfile.meltano"),
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("examples/*/*.*")),
    ]
}
"""Everything that people read and copy, by path."""

PROGRAMS = Path(sys.executable).parent
TOKEN = "ul_pat_mock"  # noqa: S105

RUN_ELSEWHERE = {
    "airflow": "test-scheduler triggers the DAG, in an Airflow",
    "docker": "needs a daemon; hadolint checks the files",
    "kubectl": "needs a cluster; test-scheduler checks the manifest and runs its command",
    "make": "make runs the demo and these tests",
    ".venv/bin/python -m mock_api": "does not end; test_docs starts each of them",
    "meltano run tap-unleash target-snowflake": "test-warehouses has an emulator",
    "meltano run tap-unleash target-bigquery": "test-warehouses has an emulator",
}
"""Commands whose blocks are not run here, with the reasons."""

pytestmark = pytest.mark.timeout(600)


def blocks(page: str, language: str = "sh") -> list[str]:
    """The blocks of a page, without those that run elsewhere."""
    elsewhere = "|".join(map(re.escape, RUN_ELSEWHERE))
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^\1```$", TEXTS[page], re.DOTALL | re.MULTILINE
    )
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
            connection.execute(
                "ALTER DATABASE postgres SET timezone TO 'Australia/Sydney'"
            )
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
    lines = file.read_text().splitlines()
    return sum('"stream":"analytics","record"' in line for line in lines)


def test_readme_loads_postgresql_from_nothing(servers: Servers, folder: Path) -> None:
    printed = servers.paste(folder, *blocks("README.md"))
    assert "The connection works. Devices in the account: 4" in printed
    assert '"record": {' in printed
    servers.assert_loaded()


def test_quickstart_extracts_everything(servers: Servers, folder: Path) -> None:
    printed = servers.paste(folder, *blocks("docs/quickstart.md"))
    assert "The connection works. Devices in the account: 4" in printed
    assert records(folder / "detections.jsonl") == len(servers.api.truth())


def test_tutorial_ends_with_the_result_on_the_page(
    servers: Servers, folder: Path
) -> None:
    printed = servers.paste(folder, *blocks("docs/tutorial.md"))
    (result,) = blocks("docs/tutorial.md", "text")
    assert result in re.sub(r" +$", "", printed, flags=re.MULTILINE)
    servers.assert_loaded()


def test_guides_work_in_the_project_of_the_tutorial(
    servers: Servers, folder: Path
) -> None:
    *before, _query = blocks("docs/tutorial.md")
    state = blocks("docs/reference/state.md")
    servers.paste(
        folder, "uv tool install ./tap-unleash", *before, state[0].splitlines()[0]
    )
    project = folder / "unleash-live"
    bookmarks = json.loads((project / "state.json").read_text())["singer_state"]
    assert len(bookmarks["bookmarks"]["analytics"]["partitions"]) == 4
    secrets = before[1].replace("meltano install\n", "")
    for page in (
        "docs/reference/state.md",
        "docs/guides/incremental.md",
        "docs/guides/selection.md",
    ):
        servers.paste(project, secrets, *blocks(page))
    total, new = (records(project / f"{n}.jsonl") for n in ("detections", "new"))
    assert total == len(servers.api.truth())
    assert 0 < new < total
    assert (project / "selected.jsonl").exists()
    excluded = yaml.safe_load((project / "meltano.yml").read_text())
    patterns = excluded["plugins"]["extractors"][0]["select"]
    assert {"!api_version.*", "!flight_logs.*"} <= {*patterns}
    servers.assert_loaded()


@pytest.mark.parametrize("variant", ["tap-unleash", "tap-unleash-in-batches"])
def test_postgresql_project_of_the_page(
    servers: Servers, folder: Path, variant: str
) -> None:
    project = folder / "unleash-live"
    project.mkdir()
    page = "docs/destinations/postgres.md"
    (yml,) = blocks(page, "yaml")
    (project / "meltano.yml").write_text(yml)
    script, first_load = blocks(page)
    names = "tap-unleash target-postgres\n"
    assert script.endswith(names)
    if variant == "tap-unleash":
        servers.paste(project, script)
    else:
        servers.paste(
            project, script.replace(f"meltano run {names}", first_load), script
        )
    servers.assert_loaded()


def test_json_lines_project_of_the_page(servers: Servers, folder: Path) -> None:
    project = folder / "unleash-live"
    project.mkdir()
    page = "docs/destinations/jsonl.md"
    (yml,) = blocks(page, "yaml")
    (project / "meltano.yml").write_text(yml)
    # The target needs older versions than those of the tap.
    script = "unset UV_CONSTRAINT\n"
    servers.paste(project, script, *blocks(page))
    (file,) = (project / "output").glob("analytics-*.jsonl")
    assert len(file.read_text().splitlines()) == len(servers.api.truth())


def test_client_is_installed_as_the_page_says(servers: Servers, folder: Path) -> None:
    servers.paste(folder, *blocks("docs/guides/client.md"))
    servers.paste(folder, ".venv/bin/python -c 'import tap_unleash.api.client'")


def test_tap_reads_the_mock_api_of_the_page(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    script = blocks("docs/demo.md")[-1]
    assert "http://127.0.0.1:8000/v1" in script
    script = script.replace("http://127.0.0.1:8000/v1", servers.api.url)
    servers.paste(tmp_path, script.replace("API_KEY=mock", f"API_KEY={TOKEN}"))
    assert records(tmp_path / "detections.jsonl") == len(servers.api.truth())


def test_the_probe_of_the_page_writes_a_report(
    servers: Servers, tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    servers.paste(tmp_path, *blocks("docs/guides/probe.md"))
    report = json.loads((tmp_path / "build" / "probe" / "report.json").read_text())
    assert report["answers"]["version_form"]["finding"] == "braces"
    assert report["ended_early"] is None


def test_every_command_is_run() -> None:
    source = Path(__file__).read_text()
    for page in TEXTS:
        if blocks(page):
            assert f'"{page}"' in source, f"run the commands of {page}"


def test_the_tap_is_installed_from_one_place() -> None:
    """As long as the tap is not on PyPI, nobody is told to install its name from there."""
    for path, text in TEXTS.items():
        for source in re.findall(
            r"pip(?:x| tool)? install ([^-\s]\S*tap-[\w-]+)", text
        ):
            assert source == f".{PIP_URL[2:]}", path
        for source in re.findall(r"pip_url: (\S*tap-unleash\S*)", text):
            assert source == PIP_URL, path


@pytest.mark.parametrize("copy", ["true", "false"])
def test_the_url_of_the_pages_keeps_timestamps_in_utc(
    servers: Servers, tmp_path: Path, copy: str
) -> None:
    """Without Meltano, whose project sets the time zone as well."""
    urls = {
        url
        for text in TEXTS.values()
        for url in re.findall(r"postgresql\+psycopg://[^\s'`]+", text)
    }
    (url,) = urls
    target = ROOT / ".meltano" / "loaders" / "target-postgres" / "venv" / "bin"
    config = (
        f'{{"sqlalchemy_url": "{url}", "use_copy": {copy}, '
        '"default_target_schema": "unleash"}'
    )
    servers.paste(
        tmp_path,
        "export TAP_UNLEASH_API_KEY=ul_pat_…",
        f"echo '{config}' > target.json",
        f"{shlex.quote(str(PROGRAMS / 'tap-unleash'))} --config=ENV | "
        f"{shlex.quote(str(target / 'target-postgres'))} --config target.json",
    )
    servers.assert_loaded()


def test_every_page_with_a_target_for_postgresql_has_its_time_zone() -> None:
    for path, text in TEXTS.items():
        if path.endswith(".md") and "TARGET_POSTGRES_SQLALCHEMY_URL=" in text:
            assert "timezone%3DUTC" in text, path
        if path.endswith(".md") and "target-postgres" in text:
            assert "time zone" in text.lower(), path


def test_environment_variables_exist() -> None:
    bundle = files("meltano.core.bundle").joinpath("settings.yml").read_text()
    known = {
        "MELTANO_" + setting["name"].replace(".", "_").upper()
        for setting in yaml.safe_load(bundle)["settings"]
    }
    core = vars(meltano.core.project)
    known |= {core[name] for name in core if name.endswith("_ENV")}
    known |= {
        PREFIX + name.upper() for name in TapUnleash.config_jsonschema["properties"]
    }
    known.add(f"{PREFIX}LOGLEVEL")
    for path, text in TEXTS.items():
        if re.search("meltano.yml|examples/warehouses", path):
            for loader in yaml.safe_load(text)["plugins"]["loaders"]:
                prefix = loader["name"].upper().replace("-", "_")
                for setting in loader.get("settings", []):
                    known.add(f"{prefix}_{setting['name'].upper()}")
    misspelled = {f"{PREFIX}STRAT_DATE"}  # in an error message
    for path, text in TEXTS.items():
        names = set(re.findall(r"\b(?:MELTANO|TAP|TARGET)_[A-Z_]+[A-Z]\b", text))
        assert names - {PREFIX[:-1]} - misspelled <= known, path


def test_samples_are_records_of_the_tap() -> None:
    """Of the row in the vendor's documentation."""
    device_id = "Wabcdb35be35bb72"
    row = {
        "timestamp": "2020-08-17T02:08:49.000Z",
        "class_name": "person",
        "count": 1,
        "device_id": device_id,
        "source_file_name": "Wabcdb35be35bb72?token=sneaky-firefox-288",
        "frame_number": 110251,
        "model_id": "starter-ai",
        "session_id": "1597622730877",
    }
    with MockAPI(Account({device_id: [Row(row)]})) as api:
        (record,) = run(api).records()
    for page in ("README.md", "docs/index.md", "docs/reference/streams.md"):
        samples = map(json.loads, blocks(page, "json"))
        assert record in samples, page
