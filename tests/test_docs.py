"""The documentation: it builds, and it matches the program, message by message."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from programs import run

from mock_api import Account, Fault, MockAPI
from scripts import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ERRORS = (DOCS / "reference" / "errors.md").read_text()
LINES = re.findall(r"`([^`]+)`(?=<br>| \|)", ERRORS.partition("## Messages")[2])
PLACE = "…"
DESCRIPTIVE = {"description", "epilog", "help", "title"}
"""Keyword arguments whose texts are not messages."""

PARTS = {
    *("attempts", "data is not", "of device", "rows and keys", "the errors are"),
    *(
        "the start of",
        "devices done",
        "windows instead of",
        "invalid configuration shard",
        "invalid configuration batch_config",
        "invalid configuration the",
    ),
}
"""Parts of messages, progress, and an exception that is always caught."""


def texts(node: ast.AST) -> Iterator[str]:
    """The texts of a module, except for its docstrings and descriptions."""
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else PLACE for p in node.values)
        yield "".join(map(str, parts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.sub(r"%(?:[drs]|\.\df)", PLACE, node.value)
    elif not (
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.keyword) and node.arg in DESCRIPTIVE)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".debug"))
    ):
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


SOURCE = [
    text
    for file in sorted(ROOT.glob("tap_unleash/*.py"))
    for text in texts(ast.parse(file.read_text()))
]


def words(text: str) -> str:
    """The text without what differs between a message and the page."""
    return " ".join(re.findall(r"[\w/-]+", text.lower()))


MESSAGES = {
    " ".join(words(max(text.partition(". ")[0].split(PLACE), key=len)).split()[:3])
    for text in SOURCE
    if re.match(r"(?:\W*[\w']+\W*[ …]){3}.*(?:[.:…]|[a-z)] )", text)
}


@pytest.mark.parametrize("message", sorted(MESSAGES - PARTS))
def test_every_message_is_explained(message: str) -> None:
    assert message.startswith("check") or message in words(ERRORS)


@pytest.mark.parametrize("line", LINES)
def test_every_explained_line_is_in_the_source(line: str) -> None:
    source = words(" ".join(SOURCE))
    for part in re.split(r"…|\d\.?\d*| after |\(HTTP ", line):
        assert words(part) in source


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"strat_date": "2024-01-31"}, ""),
        ({"shard": "0/2"}, ""),
        ({"shard": "3/2"}, ""),
        ({"api_url": "http://api.unleashlive.com/v1"}, ""),
        ({"start_date": "2024-02-01", "end_date": "2024-01-31"}, ""),
        ({"device_ids": ["W1"]}, ""),
        ({"api_key": "mistyped"}, ""),
        ({"api_url": "http://127.0.0.1:9/v1"}, ""),
        ({}, "kind=redirect"),
        ({}, "kind=status_429,retry_after=500"),
        ({}, "kind=status_404,where=/W629f6fbd82c07cd/"),
    ],
    ids=str,
)
def test_the_last_line_is_on_the_page(settings: dict[str, Any], fault: str, tmp_path: Path) -> None:
    faults = [Fault.parse(fault)] if fault else []
    with MockAPI(Account.generate(rows=9), faults=faults) as api:
        config = {"api_url": api.url, "api_key": "mock"} | settings
        (tmp_path / "config.json").write_text(json.dumps(config))
        done = subprocess.run(
            [sys.executable, "-m", "tap_unleash", "--config", tmp_path / "config.json"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("tap-unleash: ")
    assert len(line) < 240  # three lines of a terminal
    said = line.removeprefix("tap-unleash: ").removeprefix("Invalid configuration: ")
    known = (line.removeprefix(f"{PLACE} ").split(PLACE) for line in LINES)
    patterns = (".*".join(map(re.escape, parts)) for parts in known)
    assert any(re.fullmatch(rf"{p}\.?", said) for p in patterns)


def test_help_fits_80_columns() -> None:
    command = (sys.executable, "-m", "tap_unleash", "--help")
    assert max(map(len, run(*command, COLUMNS="80").splitlines())) <= 80


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


def test_no_page_describes_what_is_gone() -> None:
    gone = re.compile("flight_log|emit_activate|tap_unleash.api|SSL_CERT|timezone%3D|--like")
    for page in [ROOT / "README.md", *ROOT.glob("examples/*/*"), *DOCS.glob("**/*.md")]:
        assert not gone.search(page.read_text()), page


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


def test_help_names_the_command_that_describes_the_settings() -> None:
    def tap(*args: str) -> str:
        return " ".join(run(sys.executable, "-m", "tap_unleash", *args, cwd=ROOT).split())

    assert "--about --format=markdown describes all settings" in tap("--help")
    described = tap("--about", "--format=markdown")
    assert "Extract only these devices. Fails if a device" in described


def test_mock_apis_of_the_page_start() -> None:
    page = (DOCS / "guides" / "fault-injection.md").read_text()
    commands = re.findall(r"^\.venv/bin/python -m mock_api --port 8000(.*)$", page, re.MULTILINE)
    assert len(commands) > 3
    for options in commands:
        arguments = ["-m", "mock_api", "--port", "0", *options.split()]
        with subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.terminate()


@pytest.mark.parametrize("name", ["bigquery", "jsonl", "postgres", "snowflake"])
def test_the_project_of_a_warehouse_is_valid(name: str) -> None:
    example = (ROOT / "examples" / "warehouses" / f"{name}.yml").read_text()
    schema = (files("meltano") / "schemas/meltano.schema.json").read_text()
    jsonschema.validate(yaml.safe_load(example), json.loads(schema))
