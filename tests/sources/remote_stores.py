"""Stores on loopback for tests: S3, a web server, a proxy that cuts, and archives to put there."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any

import s3fs
from moto.server import ThreadedMotoServer


class Impatient:
    """A clock on which every wait is over at once."""

    def monotonic(self) -> float:
        return 0.0

    def time(self) -> float:
        return 0.0

    def wait(self, event: threading.Event, timeout_seconds: float | None) -> bool:
        return event.is_set()


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 without buckets."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def s3_environment(monkeypatch: Any, endpoint: str) -> Iterator[None]:
    """Credentials and endpoint as operators set them; file systems made before are forgotten."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


class CuttingProxy:
    """Passes TCP on to an address; while ``cuts`` is above 0, a connection that has brought back
    ``after_bytes`` is closed, and ``cuts`` is one less.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition("/")[2].partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.after_bytes = 0
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):  # the thread in accept() is woken by this, not by closing
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, back in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, sink, back), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if back and self.cuts > 0 and passed > self.after_bytes:
                    self.cuts -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class WebServer:
    """``http.server`` with what real servers do: etags, ranges, refusals, cut transfers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.status: int | None = None
        self.etags = self.ranges = self.head = True
        self.cuts: list[int] = []
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        self.before_end: Callable[[], object] = lambda: None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _, _ in self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    store: WebServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of these tests hang up when they please."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        store = self.server.store
        store.requests.append((self.command, self.path, dict(self.headers)))
        body = store.files.get(self.path.partition("?")[0])
        status = 404 if body is None else store.status
        if not with_body and not store.head:
            status = 403
        if body is None or status:
            self.begin(status, 0)
        else:
            self.send(body, with_body)

    def begin(self, status: int, size_bytes: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size_bytes))
        for name, value in (headers | self.server.store.headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, body: bytes, with_body: bool) -> None:
        store = self.server.store
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"'} if store.etags else {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not (wanted and store.ranges and with_body):
            part = body
            self.begin(200, len(part), **headers)
        else:
            first = int(wanted[1])
            part = body[first : int(wanted[2]) + 1 if wanted[2] else None]
            span = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
            self.begin(206, len(part), Content_Range=span, **headers)
        if with_body:
            self.send_body(part, to_the_end=not (wanted and wanted[2]))

    def send_body(self, part: bytes, to_the_end: bool) -> None:
        store = self.server.store
        cut = store.cuts.pop(0) if store.cuts and to_the_end else len(part)
        self.wfile.write(part[:cut])
        self.wfile.flush()
        if to_the_end:
            store.before_end()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


def tar(files: Mapping[str, bytes | tarfile.TarInfo], *, compress: bool = True) -> bytes:
    """A .tar.gz of these files; where a TarInfo stands, that member is put in as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 1) if compress else out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


def zipped(files: Mapping[str, bytes], *, mode: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = mode << 16
            archive.writestr(member, content)
    return out.getvalue()


def put(bucket: Any, prefix: str, files: Mapping[str, bytes]) -> None:
    """Objects into a bucket of boto3."""
    for name, content in files.items():
        body: bytes | IO[bytes] = content
        bucket.put_object(Key=f"{prefix}/{name}", Body=body)
