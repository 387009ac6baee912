"""A small server for lines of text on loopback, driven by the caller's own select loop."""

from __future__ import annotations

import socket
from collections.abc import Container


class LineServer:
    """Accepts clients, cuts what they send into lines, sends lines to them; never blocks."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._clients: dict[socket.socket, bytearray] = {}

    @property
    def port(self) -> int:
        """TCP port on loopback."""
        return self._listener.getsockname()[1]

    def sockets(self) -> list[socket.socket]:
        """What to select on."""
        return [self._listener, *self._clients]

    def serve(self, ready: Container[object]) -> bool:
        """Take new clients and what the `ready` ones sent, forget those that left; whether somebody new is there."""
        for client in list(self._clients):
            if client in ready:
                self._receive(client)
        if self._listener not in ready:
            return False
        client, _ = self._listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[client] = bytearray()
        return True

    def lines(self) -> list[tuple[socket.socket, str]]:
        """Complete lines received since the last call, with who sent them."""
        lines = []
        for client, buffer in self._clients.items():
            while (end := buffer.find(b"\n")) >= 0:
                lines.append((client, buffer[:end].decode(errors="replace")))
                del buffer[: end + 1]
        return lines

    def send(self, client: socket.socket, line: str) -> None:
        """Send one line; a client that does not read is dropped."""
        try:
            client.setblocking(True)
            client.settimeout(1.0)
            client.sendall(line.encode() + b"\n")
            client.setblocking(False)
        except OSError:
            self._drop(client)

    def broadcast(self, line: str) -> None:
        """Send one line to everybody; whoever does not keep up misses it."""
        for client in list(self._clients):
            try:
                client.send(line.encode() + b"\n")
            except BlockingIOError:
                continue
            except OSError:
                self._drop(client)

    def close(self) -> None:
        """Close everything."""
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()

    def _receive(self, client: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                self._clients[client] += data
            self._drop(client)  # an empty read is a goodbye
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client, None)
        client.close()
