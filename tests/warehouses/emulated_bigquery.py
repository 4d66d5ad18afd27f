"""The real BigQuery loader, on a BigQuery that local-bigquery emulates with DuckDB.

It runs in an environment of its own. Google's library finds the emulator by itself, from
`BIGQUERY_EMULATOR_HOST`; only its credentials are left out here, and uploads go out
uncompressed, as the emulator cannot read others.

With a query as its only argument, it prints the rows as lines of JSON instead.
"""

# mypy: disable-error-code="import-not-found"
# What it imports is in that environment only.

from __future__ import annotations

import gzip
import io
import json
import sys
from typing import IO, Any

import google.auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from target_bigquery.target import TargetBigQuery

PROJECT = "my-project"

load = bigquery.Client.load_table_from_file


def load_uncompressed(
    self: bigquery.Client, file: IO[bytes], *args: Any, **kwargs: Any
) -> bigquery.LoadJob:
    """Send the lines of a file without compression."""
    lines = io.BytesIO(gzip.decompress(file.read()))
    return load(self, lines, *args, **kwargs)


def main() -> None:
    """Run the loader, or a query."""
    google.auth.default = lambda *_, **__: (AnonymousCredentials(), PROJECT)
    bigquery.Client.load_table_from_file = load_uncompressed
    if sys.argv[1].startswith("SELECT"):
        for row in bigquery.Client(PROJECT).query(sys.argv[1]).result():
            sys.stdout.write(json.dumps(dict(row), default=str) + "\n")
    else:
        TargetBigQuery.cli()


if __name__ == "__main__":
    main()
