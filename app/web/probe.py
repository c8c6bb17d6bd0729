"""The in-image health check: one request to /readyz over loopback, with nothing but a socket.

`http.client` would answer the same and costs 30 ms of imports; a container with one CPU pays it every second.
"""

from __future__ import annotations

import os
import socket

TIMEOUT = 3.0
_REQUEST = (
    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: slipway-probe\r\nConnection: close\r\n\r\n"
)


def ready(host: str = "127.0.0.1", port: int | None = None, *, timeout: float = TIMEOUT) -> bool:
    """Tell whether the service on `port` (WEB_PORT, else 8000) answers 200, `timeout` seconds a step."""
    try:
        number = int(os.environ.get("WEB_PORT") or 8000) if port is None else port
        with socket.create_connection((host, number), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(_REQUEST)
            answer = b""
            while len(answer) < 12 and (piece := connection.recv(12 - len(answer))):
                answer += piece
    except (OSError, ValueError, OverflowError):
        return False
    return answer[:7] == b"HTTP/1." and answer[8:12] == b" 200"
