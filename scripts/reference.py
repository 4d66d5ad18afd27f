"""Write the settings and the tables of fields into the pages that have them.

A table follows a comment with its name, and ends at the next empty line.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def kind(schema: dict[str, Any]) -> str:
    """Say the type of a value in words.

    Args:
        schema: The value's schema.

    Returns:
        The type.
    """
    types = schema["type"]
    words = [types] if isinstance(types, str) else list(types)
    if "format" in schema:
        words[0] = schema["format"]
    if "enum" in schema:
        words[0] = " or ".join(f"`{value}`" for value in schema["enum"])
    return " or ".join(words)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Make a Markdown table.

    Args:
        head: The titles of its columns.
        rows: Its rows.

    Returns:
        The table.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@cache
def tap() -> TapUnleash:
    """Return the tap, without a configuration."""
    return TapUnleash(config={}, validate_config=False)


def limits(schema: dict[str, Any]) -> str:
    """Say between which numbers a value lies.

    Args:
        schema: The value's schema.

    Returns:
        The limits, with a comma before them; empty if there are none.
    """
    if "minimum" not in schema:
        return ""
    to = f"to {schema['maximum']}" if "maximum" in schema else "or more"
    return f", {schema['minimum']} {to}"


def tables() -> Iterator[tuple[str, str]]:
    """Make the tables.

    Yields:
        The name of a table, and the table.
    """
    schema = tap().config_jsonschema
    of_the_sdk: dict[str, Any] = {"properties": {}}
    tap().append_builtin_config(of_the_sdk)
    rows = []
    for name, setting in schema["properties"].items():
        if name not in of_the_sdk["properties"]:
            type_ = kind(setting).removesuffix(" or null") + limits(setting)
            default = json.dumps(setting.get("default", "")).strip('"')
            value = "required" if name in schema["required"] else default and f"`{default}`"
            rows.append([f"`{name}`", type_, value, setting["description"]])
    yield "settings", table(["setting", "type", "default", "meaning"], rows)
    for name, stream in tap().streams.items():
        fields = [
            [f"`{field}`", kind(of_field), of_field["description"]]
            for field, of_field in stream.schema["properties"].items()
        ]
        yield name, table(["field", "type", "meaning"], fields)


def main(root: Path = ROOT) -> None:
    """Rewrite the pages.

    Args:
        root: The folder of the folder `docs`.
    """
    made = dict(tables())
    place = re.compile(r"(<!-- table: (.+) -->\n\n)(?:\|.*\n)*")
    for page in root.glob("docs/reference/*.md"):
        page.write_text(place.sub(lambda m: m[1] + made[m[2]], page.read_text()))


if __name__ == "__main__":
    main()
