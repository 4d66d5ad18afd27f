"""Options with which the mock API behaves like a report of `make probe` says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mock_api.options import Options

if TYPE_CHECKING:
    from pathlib import Path

OWN = {"api_key", "faults", "seed"}
"""Options that are not properties of an API."""


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the JSON form of a report.

    Args:
        path: The file.

    Returns:
        The options that the report answers, and the others with the reasons for which they
        take their defaults.

    Raises:
        ValueError: If the file is not a report.
    """
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
        findings = {name: answer["finding"] for name, answer in answers.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        msg = f"'{path}' is not a report.json of `make probe`"
        raise ValueError(msg) from error
    options: dict[str, Any] = {}
    defaults = {}
    for name in vars(Options)["__pydantic_fields__"].keys() - OWN:
        finding = findings.get(name)
        if (name, finding) == ("max_range_seconds", "none"):
            continue
        try:
            if finding is not None:
                options[name] = vars(Options(**{name: finding}))[name]
            else:
                asked = name in findings
                defaults[name] = "not found out" if asked else "not asked"
        except ValidationError:
            defaults[name] = "not an option"
    return options, dict(sorted(defaults.items()))
