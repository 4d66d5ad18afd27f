"""A mock API that runs in a thread of this process, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mock_api.account import Account
from mock_api.app import App
from mock_api.options import Options
from mock_api.state import Exchange, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which also passes its transport to the app.

    Faults below HTTP are made on the transport.
    """

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class MockAPI:
    """The documented API on localhost, for as long as the `with` block lasts.

    ```python
    with MockAPI(Account.generate(rows=500), page_size=50, bounds="open") as api:
        url, headers = f"{api.url}/analytics/devices", {"x-api-key": "mock"}
        requests.get(url, headers=headers)
    ```
    """

    def __init__(self, account: Account | None = None, *, port: int = 0, **options: Any) -> None:
        """Prepare a mock API; nothing listens yet.

        Args:
            account: The data; by default, those of `Account.generate()`.
            port: The port; 0 for a free one.
            **options: The arguments of `Options`.
        """
        self.account = account or Account.generate()
        self.state = State(self.account, Options(**options))
        self._port = port

    @property
    def url(self) -> str:
        """The base URL, for the `api_url` of a client."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> Sequence[Exchange]:
        """The requests so far, except those for /mock."""
        return self.state.requests

    def truth(self, device_id: str | None = None) -> list[dict[str, Any]]:
        """Return every row that is visible now, of all devices or one."""
        names = list(self.account.devices) if device_id is None else [device_id]
        return [dict(held.row.values) for name in names for held in self.state.view(name)]

    def __enter__(self) -> Self:
        """Listen."""
        listener = socket.create_server(("127.0.0.1", self._port))
        # Accepted connections inherit it; asyncio sets it only where a protocol is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listener.getsockname()[1]
        ready = Event()
        self._thread = Thread(target=self._run, args=(listener, ready), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Abort all connections and refuse new ones, as a machine that crashes."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, listener: socket.socket, ready: Event) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        finally:
            ready.set()

    async def _serve(self, listener: socket.socket, ready: Event) -> None:
        """Run uvicorn's protocol without its server, which is slow to stop."""
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        app = App(self.state)
        config = Config(app, log_config=None, log_level="error", access_log=False, ws="none")
        shared = ServerState()

        def protocol() -> _Protocol:
            return _Protocol(config=config, server_state=shared, app_state={})

        server = await self._loop.create_server(protocol, sock=listener)
        ready.set()
        await self._stopping.wait()
        server.close()
        # Connections that were accepted before the listener closed can still follow.
        while shared.connections:
            for connection in list(shared.connections):
                connection.transport.abort()
            # Only then do the pending responses see that their clients are gone.
            await asyncio.sleep(0)
        for task in list(shared.tasks):
            task.cancel()
        await asyncio.gather(*shared.tasks, return_exceptions=True)
