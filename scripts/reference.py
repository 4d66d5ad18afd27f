"""Write the tables of settings and fields into the pages that have them.

A table follows a comment with its name, and ends at the next empty line.
"""

from __future__ import annotations

import re
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


def tables() -> Iterator[tuple[str, str]]:
    """Make the tables.

    Yields:
        The name of a table, and the table.
    """
    tap = TapUnleash(config={}, validate_config=False)
    schema = tap.config_jsonschema
    of_the_sdk: dict[str, Any] = {"properties": {}}
    tap.append_builtin_config(of_the_sdk)
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    for name, setting in schema["properties"].items():
        default = setting.get("default", "")
        if isinstance(default, bool):
            default = str(default).lower()
        default = f"`{default}`" if default != "" else ""
        need = "required" if name in schema["required"] else default
        meaning = kind(setting).removesuffix(" or null")
        row = [f"`{name}`", meaning, need, setting["description"]]
        rows[name not in of_the_sdk["properties"]].append(row)
    head = ["setting", "type", "default", "meaning"]
    yield "settings", table(head, rows[True])
    yield "sdk-settings", table(head, rows[False])
    for name, stream in tap.streams.items():
        fields = [
            [f"`{field}`", kind(of_field), of_field["description"]]
            for field, of_field in stream.schema["properties"].items()
        ]
        yield name, table(["field", "type", "meaning"], fields)


def main(root: Path = ROOT) -> None:
    """Rewrite the pages.

    Args:
        root: The folder of the README and of the folder `docs`.
    """
    made = dict(tables())
    place = re.compile(r"(<!-- table: (.+) -->\n\n)(?:\|.*\n)*")
    for page in [root / "README.md", *root.glob("docs/*.md")]:
        page.write_text(place.sub(lambda m: m[1] + made[m[2]], page.read_text()))


if __name__ == "__main__":
    main()
