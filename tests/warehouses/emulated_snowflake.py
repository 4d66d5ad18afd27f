"""The real Snowflake loader, on a Snowflake that fakesnow emulates with DuckDB.

It runs in an environment of its own. As the loader cannot be told of another host, what it
connects to is replaced in this process. The emulator lacks the stage of the user, `@~`,
and a function: here a stage is a table with a column of JSON.

With a query as its only argument, it prints the rows as lines of JSON instead.
"""

# mypy: disable-error-code="import-not-found"
# What it imports is in that environment only.

from __future__ import annotations

import json
import os
import re
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import fakesnow
import snowflake.connector
from fakesnow.cursor import FakeSnowflakeCursor
from target_snowflake.target import TargetSnowflake

if TYPE_CHECKING:
    from decimal import Decimal

NOT_NEEDED = ["remove ", "drop file format", "create or replace file format"]
"""Commands that only manage files in stages."""

USE_OF_STAGE = re.compile(r"""'(@~/[^']+)'\s*(\(file_format => .+?"\))?""")

one_at_a_time = threading.RLock()
original = FakeSnowflakeCursor.execute


def table(stage: str) -> str:
    """Name the table that is the stage."""
    return "RAW.main.STAGE_" + re.sub(r"\W", "_", stage)


def execute(
    self: FakeSnowflakeCursor,
    command: str,
    params: dict[str, str] | None = None,
    *args: Any,
    **kwargs: Any,
) -> FakeSnowflakeCursor:
    """Run the commands that the emulator lacks, and pass the others on."""
    # The loader's threads share the one connection that the emulator has.
    with one_at_a_time:
        if stage := USE_OF_STAGE.search(command):
            original(self, "use schema RAW.UNLEASH")
            name = table(stage[1])
            if params and command.startswith("put"):
                upload(self, name, params["file_uri"])
                command, params = "SELECT 'UPLOADED' AS status", None
            else:
                command = USE_OF_STAGE.sub(f"{name} ", command)
                command = command.replace("$1:", "line:").replace("SEQ8()", "number")
            # The emulator's join would take this query's columns for the table's.
            if query := re.search(r"using \((select .+)\) s on", command):
                original(self, f"create or replace table {name}_rows as {query[1]}")
                command = command.replace(f"({query[1]})", f"{name}_rows")
        return original(self, command, params, *args, **kwargs)


def upload(cursor: FakeSnowflakeCursor, name: str, file_uri: str) -> None:
    """Add the lines of a file to a stage."""
    run, file = cursor._duck_conn.execute, unquote(urlsplit(file_uri).path)
    run(f"CREATE TABLE IF NOT EXISTS {name} (number UBIGINT, line JSON)")
    run(
        f"INSERT INTO {name} "  # noqa: S608 - both names are ours
        f"SELECT row_number() OVER (), json FROM read_json_objects('{file}')"
    )


def plain(value: datetime | Decimal) -> str | float:
    """Encode times and decimals; the times of the table are in UTC without an offset."""
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else float(value)


def main() -> None:
    """Run the loader, or a query."""
    FakeSnowflakeCursor.execute = execute
    with fakesnow.patch(db_path=os.environ["EMULATED_SNOWFLAKE"], nop_regexes=NOT_NEEDED):
        if len(sys.argv) == 2 and sys.argv[1].startswith("SELECT"):
            connection = snowflake.connector.connect(database="RAW", schema="UNLEASH")
            cursor = connection.cursor(snowflake.connector.DictCursor)
            for row in cursor.execute(sys.argv[1]).fetchall():
                sys.stdout.write(json.dumps(row, default=plain) + "\n")
        else:
            TargetSnowflake.cli()


if __name__ == "__main__":
    main()
