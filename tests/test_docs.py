"""The documentation: it builds, and it matches the program, message by message."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from programs import assert_serves, run
from reliability.runs import MESSAGES

from scripts import reference

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = "".join(file.read_text() for file in sorted(ROOT.glob("tap_unleash/*.py")))


def words(text: str) -> str:
    """The text without what differs between a message and the page."""
    return " ".join(re.findall(r"[\w/-]+", text.lower()))


@pytest.mark.parametrize("message", MESSAGES)
def test_every_explained_message_is_in_the_source(message: str) -> None:
    """That the messages of runs are explained is checked wherever one fails."""
    source = words(re.sub(r'\bf"|%[drs]', '"', SOURCE))
    for part in re.split(r"…|\d\.?\d*| after |\(HTTP ", message):
        assert words(part) in source


def test_tables_are_those_of_the_tap(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    reference.main(tmp_path)
    for page in DOCS.glob("**/*.md"):
        written = (tmp_path / page.relative_to(ROOT)).read_text()
        assert page.read_text() == written, "run `make hub`"


def test_pages_build_and_their_links_lead_somewhere() -> None:
    run("make", "docs")
    nav = ROOT.joinpath("mkdocs.yml").read_text()
    for page in DOCS.glob("**/*.md"):
        assert f" {page.relative_to(DOCS)}\n" in nav


def test_promises_have_tests() -> None:
    page = (DOCS / "how" / "how-it-works.md").read_text()
    promises, _, limits = (part.partition("\n## ")[0] for part in page.partition("## L"))
    stated = set(re.findall(r"^- \*\*(.+?)\.\*\*", promises, re.MULTILINE))
    named = re.findall(r"^- \*\*(.+?)\.\*\*", limits, re.MULTILINE)
    verified = json.loads((ROOT / "tests" / "verified_by.json").read_text())
    assert stated <= verified.keys() <= stated.union(named)
    source = "".join(file.read_text() for file in ROOT.glob("tests/**/test_*.py"))
    tests = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    assert all(by and tests.issuperset(by) for by in verified.values())


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("destinations/index.md", "`meltanolabs-target-csv` replaces its files in each sync"),
        ("guides/incremental.md", "60 minutes is short where recordings are uploaded hours later"),
        ("reference/settings.md", "`batch_config` cannot be combined with `stream_maps`"),
        ("reference/settings.md", "A file `.env`** in a folder above the installed SDK takes"),
    ],
)
def test_a_trap_that_only_a_page_can_name_is_named(page: str, text: str) -> None:
    assert text in (DOCS / page).read_text()


def test_help_fits_80_columns_and_names_the_command_that_describes_the_settings() -> None:
    tap = (sys.executable, "-m", "tap_unleash")
    shown = run(*tap, "--help", COLUMNS="80")
    assert max(map(len, shown.splitlines())) <= 80
    assert "--about --format=markdown describes all settings" in " ".join(shown.split())
    assert "Extract only these devices. Fails if" in run(*tap, "--about", "--format=markdown")


def test_mock_apis_of_the_page_start() -> None:
    page = (DOCS / "guides" / "fault-injection.md").read_text()
    commands = re.findall(r"^\.venv/bin/python -m mock_api --port 8000(.*)$", page, re.MULTILINE)
    assert len(commands) > 3
    for options in commands:
        assert_serves(sys.executable, "-m", "mock_api", "--port=0", *options.split())
