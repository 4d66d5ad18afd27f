"""The pages: they build, say what the program says, and have every line it can print."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, Fault, MockAPI
from scripts import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text()
LINES = [
    line
    for block in re.findall(r"```text\n(.*?)```", TROUBLESHOOTING, re.DOTALL)
    for line in block.splitlines()
]


def texts(node: ast.AST) -> Iterator[str]:
    """Strings of an expression as patterns, their placeholders as `.*`."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*"
            for part in node.values
        )
        for part in node.values:
            if not isinstance(part, ast.Constant):
                yield from (text for text in texts(part) if " " in text)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.sub(r"%[rs]", ".*", re.escape(node.value))
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def messages() -> Iterator[str]:
    """Patterns of what the tap says to people, read off its source."""
    for file in ROOT.joinpath("tap_unleash").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = (
                    node.targets if isinstance(node, ast.Assign) else [node.target]
                )
                names = {
                    target.id for target in targets if isinstance(target, ast.Name)
                }
                if names & {"msg", "what", "ADVICE", "_TRY_LATER"}:
                    yield from texts(node.value)
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"warning", "error"}
            ):
                yield from texts(node.args[0])


MESSAGES = [text for text in messages() if re.search(r"[a-z]{2}", text)]


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_explained(message: str) -> None:
    assert any(re.search(message, line) for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_every_explained_line_is_in_the_source(line: str) -> None:
    telling = [text for text in MESSAGES if len(re.findall("[a-z]{2,}", text)) > 2]
    assert any(re.search(text, line) for text in [*telling, "; trying again$"])


def stderr(config: dict[str, Any], tmp_path: Path, state: object = None) -> str:
    """Run the program, and give the last line that it prints where people look."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "state.json").write_text(json.dumps(state or {}))
    files = ("--config", tmp_path / "config.json", "--state", tmp_path / "state.json")
    done = subprocess.run(
        [sys.executable, "-m", "tap_unleash", *files],
        env=os.environ | {"LOGLEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


BROKEN_BOOKMARK = {
    "context": {"device_id": "W629f6fbd82c07cd"},
    "replication_key": "timestamp",
    "replication_key_value": "soon",
}


@pytest.mark.parametrize(
    ("config", "fault", "bookmarks"),
    [
        ({"api_key": None}, None, None),
        ({"foo": 1}, None, None),
        ({"api_key": "two words"}, None, None),
        ({"api_url": "unleash"}, None, None),
        ({"api_url": "http://api.unleashlive.com/v1"}, None, None),
        ({"shard": "3/2"}, None, None),
        ({"start_date": "yesterday"}, None, None),
        ({"device_ids": ["W1"]}, None, None),
        ({"api_key": "wrong"}, None, None),
        ({}, "status_400", None),
        ({}, "status_401", None),
        ({}, "status_404", None),
        ({}, "status_422", None),
        ({}, "redirect", None),
        ({}, "bomb", None),
        ({}, None, [BROKEN_BOOKMARK]),
    ],
)
def test_the_program_says_a_line_of_the_page(
    tmp_path: Path,
    config: dict[str, Any],
    fault: str | None,
    bookmarks: list[dict[str, Any]] | None,
) -> None:
    faults = (Fault.parse(f"kind={fault}"),) if fault else ()
    with MockAPI(Account.generate(rows=9), faults=faults) as api:
        settings = {"api_key": "mock", "api_url": api.url, **config}
        given = {name: value for name, value in settings.items() if value}
        state = {"bookmarks": {"analytics": {"partitions": bookmarks or []}}}
        said = stderr(given, tmp_path, state)
    assert said.endswith("\n")
    # Python 3.13 has the newer name of status 422.
    assert (
        said.strip().replace("Unprocessable Content", "Unprocessable Entity") in LINES
    )
    assert len(said) < 240  # three lines of a terminal


@pytest.mark.parametrize(
    "content",
    [
        "no",
        "[]",
        '{"bookmarks": 3, "streams": 3}',
        '{"bookmarks": {"analytics": {"partitions": [{}]}}, "streams": [{}]}',
    ],
)
@pytest.mark.parametrize("name", ["catalog", "state"])
def test_a_file_that_makes_no_sense_is_told_in_a_line(
    tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "tap_unleash", "--config=ENV", f"--{name}", file],
        env=os.environ | {"TAP_UNLEASH_API_KEY": "mock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith(f"tap-unleash: The {name} file cannot be read: ")
    assert "Traceback" not in done.stderr


def test_help_fits_80_columns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tap_unleash", "--help"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "--config" in done.stdout


def test_tables_are_those_of_the_tap(tmp_path: Path) -> None:
    pages = [Path("README.md"), *(page.relative_to(ROOT) for page in DOCS.glob("*.md"))]
    (tmp_path / "docs").mkdir()
    for page in pages:
        shutil.copy(ROOT / page, tmp_path / page)
    reference.main(tmp_path)
    for page in pages:
        assert ROOT.joinpath(page).read_text() == tmp_path.joinpath(page).read_text()


def test_pages_build_and_their_links_lead_somewhere() -> None:
    done = subprocess.run(
        ["make", "docs"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promises_name_their_tests() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "reliability.md").read_text()))
    source = "".join(file.read_text() for file in ROOT.glob("tests/**/test_*.py"))
    assert named
    assert named <= set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))


def test_every_page_is_in_the_navigation() -> None:
    nav = ROOT.joinpath("mkdocs.yml").read_text()
    for page in DOCS.glob("**/*.md"):
        assert f": {page.relative_to(DOCS)}\n" in nav


def test_mock_apis_of_the_page_start() -> None:
    page = (DOCS / "mock-api.md").read_text()
    commands = re.findall(
        r"^\.venv/bin/python -m mock_api (--port .*)$", page, re.MULTILINE
    )
    assert len(commands) > 3
    for options in commands:
        free = options.replace("--port 8080", "--port 0").split()
        with subprocess.Popen(
            [sys.executable, "-m", "mock_api", *free], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.terminate()
