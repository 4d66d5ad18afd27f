"""A sandbox that runs in a thread of this process, on a real socket."""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sandbox.app import app
from sandbox.options import Options
from sandbox.state import Exchange, State
from sandbox.world import Row, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Self


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which also shows the app its transport: faults below HTTP are made there."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"transport": self.transport}  # type: ignore[typeddict-item]
        self.server_state.default_headers = [
            (b"date", formatdate(usegmt=True).encode())
        ]


class Sandbox:
    """The documented API on localhost, for as long as the `with` block lasts.

    ```python
    with Sandbox(World.generate(devices=3, rows=500), page_size=50, bounds="open") as sandbox:
        requests.get(f"{sandbox.url}/analytics/devices", headers={"x-api-key": "sandbox"})
    ```
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        **options: Any,
    ) -> None:
        """Prepare a sandbox; nothing listens yet.

        Args:
            world: The data; `World.generate()` if not given.
            host: The address to listen on.
            port: The port; 0 for one that is free, which a later start takes again.
            **options: Those of `Options`.
        """
        self.state = State(world or World.generate(), Options(**options))
        self._address = (host, port)
        self._stopping: asyncio.Event | None = None

    @property
    def world(self) -> World:
        """The data."""
        return self.state.world

    @property
    def url(self) -> str:
        """The base URL, for the `api_url` of a client."""
        return "http://{}:{}/v1".format(*self._address)

    @property
    def requests(self) -> Sequence[Exchange]:
        """What was asked so far, the control paths apart."""
        return self.state.requests

    @property
    def max_in_flight(self) -> int:
        """The most requests that were under way at once."""
        return self.state.max_in_flight

    def truth(self, device_id: str | None = None) -> list[dict[str, Any]]:
        """Give every row that requests made now would see, of all devices or one."""
        return list(self.state.truth(device_id))

    def add(self, device_id: str, rows: Iterable[Row]) -> None:
        """Let rows of a device appear."""
        self.state.world.add(device_id, rows)

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        listener = socket.create_server(self._address)
        self._address = listener.getsockname()
        ready = Event()
        self._thread = Thread(
            target=lambda: asyncio.run(self._serve(listener, ready)),
            name="sandbox",
            daemon=True,
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Break off all connections and refuse new ones, as a server does that dies."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self, listener: socket.socket, ready: Event) -> None:
        """Run uvicorn's protocol without its server, which takes tenths of a second to stop."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        config = Config(
            app,
            log_config=None,
            log_level="error",
            access_log=False,
            ws="none",
            lifespan="off",
        )
        config.load()
        shared = ServerState()
        server = await self._loop.create_server(
            lambda: _Protocol(
                config=config, server_state=shared, app_state={"sandbox": self.state}
            ),
            sock=listener,
        )
        ready.set()
        await self._stopping.wait()
        server.close()
        for connection in list(shared.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        for task in list(shared.tasks):
            task.cancel()
        await asyncio.gather(*shared.tasks, return_exceptions=True)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()
