"""Local servers in place of cameras."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def serving(send: Callable[[socket.socket], None]) -> Iterator[int]:
    """Let a thread send to the first client that connects, then hang up; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(ConnectionError):
                send(connection)

        sender = threading.Thread(target=run, daemon=True)
        sender.start()
        yield server.getsockname()[1]
        sender.join(10)
