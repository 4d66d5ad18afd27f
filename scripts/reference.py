"""Write the settings and the tables of fields into the pages that have them.

A table follows a comment with its name, and ends at the next empty line.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def kind(schema: dict[str, Any]) -> str:
    """Return the type of a value in words, and the limits of a number."""
    types = schema["type"]
    words = [types] if isinstance(types, str) else list(types)
    if "format" in schema:
        words[0] = schema["format"]
    if "enum" in schema:
        words[0] = " or ".join(f"`{value}`" for value in schema["enum"])
    if "minimum" in schema:
        to = f"to {schema['maximum']}" if "maximum" in schema else "or more"
        words[0] += f", {schema['minimum']} {to}"
    return " or ".join(words)


def table(*rows: list[str]) -> str:
    """Make a Markdown table, of which the first row is the head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables() -> Iterator[tuple[str, str]]:
    """Make the tables, by name."""
    tap = TapUnleash(config={}, validate_config=False)
    schema = tap.config_jsonschema
    of_the_sdk: dict[str, Any] = {"properties": {}}
    tap.append_builtin_config(of_the_sdk)
    rows = [["setting", "type", "default", "meaning"]]
    for name, setting in schema["properties"].items():
        if name not in of_the_sdk["properties"]:
            default = json.dumps(setting.get("default", "")).strip('"')
            value = "required" if name in schema["required"] else default and f"`{default}`"
            type_ = kind(setting).removesuffix(" or null")
            rows.append([f"`{name}`", type_, value, setting["description"]])
    yield "settings", table(*rows)
    for name, stream in tap.streams.items():
        fields = stream.schema["properties"].items()
        rows = [[f"`{key}`", kind(field), field["description"]] for key, field in fields]
        yield name, table(["field", "type", "meaning"], *rows)


def main(root: Path = ROOT) -> None:
    """Rewrite the pages in the folder `docs`."""
    made = dict(tables())
    place = re.compile(r"(<!-- table: (.+) -->\n\n)(?:\|.*\n)*")
    for page in root.glob("docs/reference/*.md"):
        page.write_text(place.sub(lambda m: m[1] + made[m[2]], page.read_text()))


if __name__ == "__main__":
    main()
