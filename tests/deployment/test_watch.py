import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scripts.deployment.console import Foreground
from scripts.deployment.errors import Unhealthy
from scripts.deployment.swarm import demultiplex
from scripts.deployment.target import Target
from scripts.deployment.watch import Figures, parsed, served_digest, smoke
from scripts.pipeline.errors import Cancelled
from tests.deployment.records import DIGEST, OTHER

CSV = """HTTP/1.1 200 OK\r
\r
# pxname,svname,hrsp_5xx,wretr,req_tot,
public,FRONTEND,3,,120,
web,web1,2,4,60,
web,BACKEND,2,7,118,
figures,FRONTEND,9,,9,
"""


class Answers(BaseHTTPRequestHandler):
    """A public address that serves what its server's `version` and `page` say."""

    def do_GET(self) -> None:
        status, body = self.server.version if self.path == "/version" else self.server.page  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.version = (200, b'{"digest": "%s"}' % DIGEST.encode())  # type: ignore[attr-defined]
    server.page = (200, b"")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def target(server: ThreadingHTTPServer) -> Target:
    return Target(environment="testing", stack="s", public_url=f"http://127.0.0.1:{server.server_port}")


def console() -> Foreground:
    return Foreground(lambda _line: None)


def test_the_figures_are_those_of_the_public_side_and_of_retries_towards_the_app() -> None:
    assert parsed(CSV) == Figures(requests=120, errors=3, retries=7)


def test_an_answer_that_is_no_figures_tells_nothing() -> None:
    assert parsed("bash: not found") is None


def test_figures_count_from_the_earlier_look_and_anew_after_a_restart_of_the_proxy() -> None:
    earlier = Figures(requests=100, errors=1, retries=2)
    assert Figures(requests=120, errors=3, retries=7).since(earlier) == Figures(
        requests=20, errors=2, retries=5
    )
    assert Figures(requests=20, errors=0, retries=0).since(earlier) == Figures(
        requests=20, errors=0, retries=0
    )


def test_a_log_stream_is_put_together_from_its_frames() -> None:
    frames = b"".join(struct.pack(">BxxxL", stream, 3) + text for stream, text in ((1, b"one"), (2, b"two")))
    assert b"".join(demultiplex(frames)) == b"onetwo"


def test_the_smoke_test_passes_when_the_digest_answers(server: ThreadingHTTPServer) -> None:
    smoke(target(server), DIGEST, console())


def test_the_smoke_test_names_what_is_served_instead(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.deployment.watch.SMOKE_SECONDS", 0.3)
    with pytest.raises(Unhealthy, match="serves aaaaaaaaaaaa and not bbbbbbbbbbbb"):
        smoke(target(server), OTHER, console())


def test_a_page_that_fails_is_no_release(server: ThreadingHTTPServer) -> None:
    server.page = (500, b"")  # type: ignore[attr-defined]
    with pytest.raises(Unhealthy, match="status 500"):
        smoke(target(server), DIGEST, console())


@pytest.mark.parametrize("answer", [(200, b"[]"), (200, b"no json"), (503, b"{}"), (200, b"{}")])
def test_anything_but_a_version_is_no_digest(server: ThreadingHTTPServer, answer: tuple[int, bytes]) -> None:
    server.version = answer  # type: ignore[attr-defined]
    assert served_digest(target(server).public_url) == ""


def test_a_cancelled_smoke_test_stops_at_once(server: ThreadingHTTPServer) -> None:
    stopped = console()
    stopped.cancelled.set()
    with pytest.raises(Cancelled):
        smoke(target(server), OTHER, stopped)
