"""An object store on loopback: moto's S3 server, behind a door that counts requests and can refuse them."""

import http.client
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

Refusal = Callable[[int, str, str], "tuple[int, str] | None"]
"""Takes a request's number (from 1), method and path; returns the HTTP status and S3 code of a refusal."""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


def admit(_number: int, _method: str, _path: str) -> None:
    """Refuse nothing."""


def each_tenth(number: int, _method: str, _path: str) -> tuple[int, str] | None:
    """Refuse each tenth request, as a busy store does."""
    return None if number % 10 else (503, "SlowDown")


@dataclass
class Door:
    """What stands before the store."""

    refuse: Refusal = admit
    counts: Counter[str] = field(default_factory=Counter)
    """Requests by method."""
    refused: int = 0
    lock: Lock = field(default_factory=Lock)

    def knock(self, method: str, path: str) -> tuple[int, str] | None:
        """Count a request; return what it is refused with, if it is."""
        with self.lock:
            self.counts[method] += 1
            answer = self.refuse(self.counts.total(), method, path)
            self.refused += answer is not None
            return answer


@dataclass(frozen=True)
class Store:
    """A bucket of its own for a test."""

    bucket: str
    endpoint: str
    """`host:port`, for plain HTTP."""
    door: Door

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """Return what a process needs to get there."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://{self.endpoint}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def options(self) -> str:
        """Return the same, but for credentials, as it stands behind the path of a URI."""
        return f"?endpoint_override={self.endpoint}&scheme=http"


@contextmanager
def serve() -> Iterator[str]:
    """Run moto's server; yields its `host:port`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop()


@contextmanager
def open_store(bucket: str, behind: str) -> Iterator[Store]:
    """Make a bucket, and a door of its own to it."""
    put = urllib.request.Request(f"http://{behind}/{bucket}", method="PUT")
    urllib.request.urlopen(put, timeout=10).close()
    door = Door()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self._body()
            refusal = door.knock(self.command, self.path)
            if refusal is not None:
                self._refuse(*refusal)
                return
            inner = http.client.HTTPConnection(behind, timeout=60)
            inner.request(self.command, self.path, body, {**dict(self.headers), "Content-Length": str(len(body))})
            answer = inner.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
            inner.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815 - the names http.server asks for

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            del self.headers["Transfer-Encoding"]
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def _refuse(self, status: int, code: str) -> None:
            content = f"<Error><Code>{code}</Code><Message>as the test asked</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Store(bucket, f"127.0.0.1:{server.server_port}", door)
    finally:
        server.shutdown()
        server.server_close()
