"""Print the tap's definition for Meltano Hub, made from `tap-unleash --about`.

It reads the output as the Hub's robot does, which rewrites the definitions of SDK-based taps,
so that the robot changes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

PIP_URL = "../tap-unleash"
"""Where the tap is installed from: a clone next to the Meltano project. With the release on
PyPI, this becomes its name, here and in the commands that `test_commands.py` lists."""

FACTS = {
    "domain_url": "https://unleashlive.com",
    "executable": "tap-unleash",
    "keywords": ["api", "computer vision", "drones", "meltano_sdk", "video"],
    "label": "Unleash live",
    "log_parser": "singer-sdk",
    "logo_url": "/assets/logos/extractors/unleash-live.svg",
    "maintenance_status": "beta",
    "namespace": "tap_unleash",
    "pip_url": PIP_URL,
    "prereq": "- An Unleash live account with the API add-on, which your account manager "
    "enables.\n- A personal access token with the role Viewer (recommended), or a legacy API "
    "key.",
    "quality": "unknown",
    "usage": "This tap is for Unleash live (unleashlive.com). It is not for Unleash "
    "(getunleash.io, feature flags) or Unleashed (inventory software).",
    "variant": "tap-unleash",
}
"""Facts that `--about` does not contain."""

ACRONYMS = {"Api": "API", "Id": "ID", "Gzip": "GZIP", "Jsonl": "JSONL", "Url": "URL"}
"""What the robot spells in capitals, in labels that it makes of names and values."""

SECRET_WORDS = ("id", "key", "password", "secret", "token")
"""What makes a string setting a secret if its name contains it, for the robot."""


def label(name: str) -> str:
    """Make the label that the robot makes of a name."""
    text = name.replace("_", " ").replace(".", " ").title()
    for word, acronym in ACRONYMS.items():
        text = text.replace(word, acronym)
    return text


def kind(name: str, schema: dict[str, Any]) -> str:
    """Return the kind of setting that the robot sees in a schema."""
    types = schema.get("type", ["array" if name.endswith(".locale") else "string"])
    plain = next(one for one in types if one != "null")
    if plain == "number":
        return "integer"
    if plain != "string":
        return str(plain)
    if name in {"start_date", "end_date"}:
        return "date_iso8601"
    if any(word in name for word in SECRET_WORDS):
        return "password"
    return "options" if "enum" in schema else "string"


def settings(schema: dict[str, Any], prefix: str = "") -> Iterator[dict[str, Any]]:
    """Make the Hub's settings of a JSON schema, those of nested objects with dotted names."""
    for key, value in schema["properties"].items():
        name = f"{prefix}{key}"
        # A stream map is an object for the Hub, whatever its schema says.
        if value.get("properties") and name != "stream_maps":
            yield from settings(value, f"{name}.")
            continue
        setting = {
            "description": value["description"],
            "kind": kind(name, value),
            "label": value.get("title") or label(name),
            "name": name,
        }
        if setting["kind"] == "options":
            setting["options"] = [{"label": label(v), "value": v} for v in value["enum"]]
        if setting["kind"] == "password":
            setting["sensitive"] = True
        if "default" in value:
            setting["value"] = value["default"]
        yield setting


def definition(about: dict[str, Any]) -> dict[str, Any]:
    """Make the definition, its lists in the order that the Hub wants."""
    return FACTS | {
        "capabilities": sorted(about["capabilities"]),
        "description": about["description"].removeprefix("Singer tap for "),
        "name": about["name"],
        "settings": sorted(settings(about["settings"]), key=lambda s: s["name"]),
        "settings_group_validation": [sorted(about["settings"]["required"])],
        "supported_python_versions": about["supported_python_versions"],
    }


def main() -> None:
    """Print the definition."""
    about = subprocess.run(
        [sys.executable, "-m", "tap_unleash", "--about", "--format=json"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    text = yaml.safe_dump(definition(json.loads(about)), width=sys.maxsize)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
