"""Checks for errors that the SDK ignores: names in variables, maps, catalogs and states."""

from __future__ import annotations

import ast
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import filter as matching
from typing import TYPE_CHECKING, Any

import msgspec

from tap_unleash.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, MutableMapping

    from singer_sdk.singerlib import Catalog

PREFIX = "TAP_UNLEASH_"
"""Prefix of the environment variables of the settings."""

_MAP_OPTIONS = {"__alias__", "__else__", "__filter__", "__key_properties__", "__source__"}
_BOOLEANS = ("true", "1", "yes", "on", "false", "0", "no", "off")


class _Device(msgspec.Struct):
    device_id: str


class _Partition(msgspec.Struct):
    context: _Device


class _Bookmark(msgspec.Struct):
    partitions: list[_Partition]


class _State(msgspec.Struct):
    bookmarks: dict[str, dict[str, Any]]


def check_environment(schema: Mapping[str, Any], environ: MutableMapping[str, str]) -> list[str]:
    """Check environment variables: the SDK does not say which one it cannot parse.

    Args:
        schema: The JSON schema of the settings.
        environ: The variables; empty ones are removed, because they count as not set.

    Returns:
        Warnings of variables that are no settings, each a line.

    Raises:
        FatalError: If a variable does not have the type of its setting.
    """
    types = {f"{PREFIX}{name.upper()}": prop["type"] for name, prop in schema["properties"].items()}
    for name in types.keys() & environ.keys():
        kind, value = types[name][0], environ[name].strip()
        try:
            if not value:
                del environ[name]
            elif kind == "integer":
                int(value)
            elif kind == "boolean":
                _BOOLEANS.index(value.lower())
            elif kind == "object":
                msgspec.json.decode(value, type=dict)
        except (ValueError, msgspec.DecodeError):
            msg = f"Invalid configuration: the variable {name} is not of type {kind}."
            raise FatalError(msg) from None
    known = types.keys() | {f"{PREFIX}LOGLEVEL"}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [f"Ignoring unknown variable '{name}'.{hint(name, known)}" for name in unknown]


def check_stream_maps(maps: Mapping[str, Any], fields: Mapping[str, Collection[str]]) -> None:
    """Check the names in stream maps: the SDK ignores those that do not exist.

    Args:
        maps: The stream maps.
        fields: The fields of each stream.

    Raises:
        FatalError: If a stream does not exist, or a field that is removed or mapped to
            itself.
    """
    for key, definition in maps.items():
        if key.startswith("__"):
            continue
        details = definition if isinstance(definition, dict) else {}
        source = details.get("__source__", key)
        known = {field for stream in matching(fields, source) for field in fields[stream]}
        if not known:
            msg = f"Invalid 'stream_maps': unknown stream '{source}'.{hint(source, fields)}"
            raise FatalError(msg)
        for field in details.keys() - known - _MAP_OPTIONS:
            value = details[field]
            removed = field.startswith("__") or value is None or value == "__NULL__"
            if removed or field in _names(value):
                near = hint(field, known | _MAP_OPTIONS)
                msg = f"Invalid 'stream_maps': unknown field '{field}'.{near}"
                raise FatalError(msg)


def _names(expression: str) -> set[str]:
    """Return the names in the map of a field."""
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:  # the SDK says so
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def hint(name: str, names: Iterable[str]) -> str:
    """Return the name that was probably meant.

    Args:
        name: A wrong name.
        names: The right ones.

    Returns:
        A sentence after a space; empty if none is near.
    """
    near = get_close_matches(name, names, 1, 0.4)
    return f" Did you mean '{near[0]}'?" if near else ""


def check_catalog(catalog: Catalog, streams: Collection[str]) -> None:
    """Check that a catalog is one of this tap.

    Args:
        catalog: The catalog.
        streams: The names of the streams.

    Raises:
        FatalError: If it has none of the streams, or one without fields.
    """
    entries = [catalog[name] for name in streams if name in catalog]
    if not entries or not all(entry.schema.properties for entry in entries):
        msg = "The catalog has no stream of this tap with fields. Create it with --discover."
        raise FatalError(msg)


def parse_state(state: dict[str, Any], streams: Collection[str]) -> dict[str, Any]:
    """Find the state in one of its forms, and check that it is one of this tap.

    Args:
        state: The state, a STATE message, or the state as Meltano dumps it.
        streams: The names of the streams.

    Returns:
        The state.

    Raises:
        FatalError: If it is of another form; the SDK would take it for an empty one.
    """
    found = state
    if "bookmarks" not in state:
        found = state.get("value", state.get("singer_state", state))
    if found == {}:
        found = {"bookmarks": {}}
    with suppress(msgspec.ValidationError):
        marks = msgspec.convert(found, _State).bookmarks
        msgspec.convert(marks.get("analytics") or {"partitions": []}, _Bookmark)
        if not marks or not marks.keys().isdisjoint(streams):
            return found
    msg = (
        'This is not a state of this tap: it must look like {"bookmarks": {"analytics": '
        '{"partitions": […]}}}. Correct it, or leave it out to extract all history.'
    )
    raise FatalError(msg)
