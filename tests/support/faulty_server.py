"""A real HTTP server on 127.0.0.1 that gives files and chat completions, with faults to inject."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Server:
    """A server on 127.0.0.1: GET gives files, POST .../chat/completions captions what it is sent.

    faults: a queue a path; each request takes one: an int is a status, "hang", "stall", "malformed", "cut",
    "reset", "drip", or a
    dict of headers with "status". caption: from the picture sent to the text said. answer: from the request to the whole
    answer, in place of a caption.
    """

    url: str = ""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Any]] = field(default_factory=dict)
    caption: Callable[[Image], Any] = lambda image: colour_of(image)
    answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    gotten: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    at_once: int = 0
    most_at_once: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def put(self, name: str, data: bytes, kind: str = "image/png") -> str:
        self.files[f"/{name}"] = (kind, data)
        return f"{self.url}/{name}"


def colour_of(image: Image) -> str:
    """What the server says of a picture by default."""
    red, green, blue = image.getpixel((image.width // 3, image.height // 3))  # type: ignore[misc]
    return f"a box of r{red} g{green} b{blue}"


def handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    def captioned(body: dict[str, Any]) -> dict[str, Any]:
        said = server.caption(sent_image(body))
        return {"choices": [{"message": said if isinstance(said, dict) else {"role": "assistant", "content": said}}]}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            with server.lock:
                server.gotten.append(self.path)
            if self.path in server.redirects:
                self.send_response(302)
                self.send_header("Location", server.redirects[self.path])
                self.end_headers()
            elif not self.fault(self.path):
                kind, data = server.files.get(self.path, ("text/plain", b""))
                self.give(200 if data else 404, data, {"Content-Type": kind} if kind else {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with server.lock:
                server.asked.append(orjson.loads(body))
                server.times.append(time.monotonic())
                server.headers.append(dict(self.headers))
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                server.on_request()
                if not self.fault("POST"):
                    document = (server.answer or captioned)(orjson.loads(body))
                    self.give(200, orjson.dumps(document), {"Content-Type": "application/json"})
            finally:
                with server.lock:
                    server.at_once -= 1

        def fault(self, path: str) -> bool:
            with server.lock:
                queue = server.faults.get(path, [])
                fault = queue.pop(0) if queue else None
            if fault is None:
                return False
            if isinstance(fault, dict):
                headers = {key: value for key, value in fault.items() if key != "status"}
                self.give(fault["status"], b"{}", headers)
            elif isinstance(fault, int):
                self.give(fault, b"{}", {})
            elif fault == "hang":
                server.released.wait(30)
            elif fault == "malformed":
                self.give(200, b'{"choices": [{"message"', {"Content-Type": "application/json"})
            elif fault == "stall":
                self.give(200, b'{"choices"', {"Content-Length": "1000", "Content-Type": "image/png"})
                server.released.wait(30)
            elif fault == "cut":
                self.give(200, b'{"choices"', {"Content-Length": "1000", "Content-Type": "image/png"})
            elif fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif fault == "drip":  # each read is short, the whole takes for ever
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for k in range(200):
                    try:
                        self.wfile.write(f"X-{k}: {k}\r\n".encode())
                    except OSError:
                        break
                    if server.released.wait(0.05):
                        break
            self.close_connection = True
            return True

        def give(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the client was killed, or had enough
                pass

    return Handler


def sent_image(body: dict[str, Any]) -> Image:
    """The image of a chat completion's data URL."""
    from PIL import Image

    url = body["messages"][0]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


@contextmanager
def faulty_server() -> Iterator[Server]:
    """A running server."""
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state))
    http.daemon_threads = True
    http.block_on_close = False
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    state.released.set()
    http.shutdown()
    http.server_close()
    thread.join()
