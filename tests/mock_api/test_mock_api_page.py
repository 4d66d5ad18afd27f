"""The page on fault injection lists every option, fault and parameter of a fault."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_origin

import pytest

from mock_api import Fault, Options
from mock_api.faults import STREAMS, Kind

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "fault-injection.md").read_text()
FIELDS: dict[str, FieldInfo] = vars(Options)["__pydantic_fields__"]


def line(name: str, field: FieldInfo) -> str:
    literal = get_origin(field.annotation) is Literal
    choices = get_args(field.annotation) if literal else ()
    others = [f"`{choice}`" for choice in choices if choice != field.default]
    default = "" if field.default is None else f"**`{field.default}`**"
    values = ", ".join(filter(None, [default, *others]))
    return f"| `{name}` | {values} | {field.description} |"


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"faults"}))
def test_page_has_every_option(name: str) -> None:
    assert line(name, FIELDS[name]) in PAGE.splitlines()


@pytest.mark.parametrize("kind", get_args(Kind))
def test_page_has_every_fault(kind: str) -> None:
    assert f"`{kind}`" in PAGE


def test_page_has_every_parameter_of_a_fault() -> None:
    for name in [field.name for field in dataclasses.fields(Fault)]:
        assert re.search(rf"^\| `{name}` \| ", PAGE, re.MULTILINE)
    for name in STREAMS:
        assert f"`{name}`" in PAGE
