"""A steady, bounded load on one address, and how many of its requests failed."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(kw_only=True)
class Load:
    """Counts of answers by status; 0 stands for a connection that broke."""

    answers: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return how many requests were made."""
        return sum(self.answers.values())

    @property
    def failed(self) -> int:
        """Return how many requests broke or were answered with an error."""
        return sum(count for status, count in self.answers.items() if status == 0 or status >= 400)


@contextmanager
def load(url: str, *, path: str = "/version", clients: int = 4, pause: float = 0.01) -> Iterator[Load]:
    """Ask `url` from several keep-alive clients for the block, each pausing `pause` seconds in between."""
    seen = Load()
    stop = threading.Event()
    lock = threading.Lock()
    address = urlsplit(url)

    def client() -> None:
        connection = http.client.HTTPConnection(address.netloc, timeout=15)
        while not stop.wait(pause):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                status, trouble = answer.status, ""
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, trouble = 0, repr(error)
            with lock:
                seen.answers[status] += 1
                if trouble:
                    seen.troubles.append(trouble)
        connection.close()

    threads = [threading.Thread(target=client, name=f"client {number}") for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
