"""A TCP proxy in front of PostgreSQL or Redis that fails on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["Proxy"]


class Proxy:
    """Forwards to the server of `database_url` until told to do otherwise. A context manager.

    `target`: the address of another kind of server, a path for a unix socket."""

    def __init__(self, database_url: str = "", *, target: str | tuple[str, int] | None = None) -> None:
        self._database_url = database_url
        self._target = target or _address(database_url)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._questions = threading.Event()
        self._answers = threading.Event()
        self.pause = 0.0
        """Seconds that each piece is kept before it goes on."""
        self._listener: socket.socket | None = None
        self._port = 0
        self.resume()
        self.start()

    @property
    def database_url(self) -> str:
        """The server, through this proxy."""
        return make_conninfo(self._database_url, host="127.0.0.1", port=self._port)

    @property
    def redis_url(self) -> str:
        """A Redis server, through this proxy."""
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Accepts connections, on the port of before."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuses new connections and severs those there are: the server is down."""
        if self._listener is not None:
            # Closing alone does not wake the thread that waits in accept.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.sever()

    def go_to(self, database_url: str) -> None:
        """Sends new connections to another server."""
        self._target = _address(database_url)

    def sever(self) -> None:
        """Resets all connections."""
        with self._lock:
            pairs = list(self._pairs)
            self._pairs.clear()
        for pair in pairs:
            for end in pair:
                _reset(end)
        self.resume()

    def deaf(self) -> None:
        """Takes what it is sent and passes nothing on, in either direction, until `resume`."""
        self._questions.clear()
        self._answers.clear()

    def hold_answers(self) -> None:
        """The server hears everything and the client nothing, until `resume`."""
        self._answers.clear()

    def resume(self) -> None:
        """Passes on what was held."""
        self._questions.set()
        self._answers.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
            try:
                server.connect(self._target)
            except OSError:
                _reset(client)
                server.close()
                continue
            with self._lock:
                self._pairs.add((client, server))
            for source, to, gate in ((client, server, self._questions), (server, client, self._answers)):
                threading.Thread(target=self._pass_on, args=(source, to, gate), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, gate: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                gate.wait()
                if self.pause:
                    threading.Event().wait(self.pause)
                to.sendall(piece)
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _address(database_url: str) -> str | tuple[str, int]:
    given = conninfo_to_dict(database_url)
    host, port = str(given.get("host") or "localhost"), int(given.get("port") or 5432)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        if end.family == socket.AF_INET:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()
