"""The limits of a real nginx in front of the mock API; skipped where there is none."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mock_api import Account, MockAPI
from reliability.runs import Table, assert_truth, expected, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(not NGINX, reason="nginx is not installed")

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  limit_req_zone $binary_remote_addr zone=rate:1m rate=20r/s;
  limit_conn_zone $binary_remote_addr zone=connections:1m;
  limit_req_status 429;
  limit_conn_status 429;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      {limit};
      proxy_pass {api};
    }}
  }}
}}
"""


@contextmanager
def nginx(api: MockAPI, limit: str, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    origin = api.url.removesuffix("/v1")
    text = CONFIGURATION.format(folder=folder, port=port, limit=limit, api=origin)
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    arguments = [str(NGINX), "-p", str(folder), "-c", str(configuration)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        try:
            while True:
                with socket.socket() as probe:
                    if not probe.connect_ex(("127.0.0.1", port)):
                        break
                assert process.poll() is None, process.stderr and process.stderr.read()
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("limit", "concurrency"),
    [("limit_req zone=rate", 4), ("limit_req zone=rate burst=9 nodelay", 4)]
    + [("limit_conn connections 2", concurrency) for concurrency in (4, 16)],
)
def test_the_limits_of_nginx_refuse_few_requests(
    limit: str, concurrency: int, tmp_path: Path
) -> None:
    with (
        MockAPI(Account.generate(devices=150, rows=20), latency=0.02) as api,
        nginx(api, limit, tmp_path) as url,
    ):
        result = run(url, concurrency=concurrency)
        assert (result.code, result.err) == (0, "")
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(api.truth()))
        accepted = len(api.requests)
    log = (tmp_path / "access.log").read_text()
    # How many depends on the load of the machine; the simulations have exact limits.
    assert 0 < log.count('" 429 ') < accepted / 3
