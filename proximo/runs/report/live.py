"""A report that follows its runs: served to this machine alone, and drawn again when there is news.

GET /        the page, with a script that listens
GET /body    its content now
GET /events  server-sent events: `changed` whenever a log has grown

Requests under another name than this machine's own are refused: a page of some other site could otherwise
have its name lead here, and read the report.
"""

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

from proximo.errors import UserError

HOST = "127.0.0.1"
PORTS = 100  # that are tried for one that is free
LOOK = 1.0  # seconds between two looks at the logs
QUIET = 15.0  # seconds after which a comment shows that the connection lives
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
POLICY += "script-src 'unsafe-inline'; connect-src 'self'"
SCRIPT = """
<script>
"use strict";
const news = new EventSource("/events");
let busy = false;
news.addEventListener("changed", async () => {
  if (busy) return;
  busy = true;
  try {
    const found = await fetch("/body");
    if (found.ok) document.querySelector("main").innerHTML = await found.text();
  } finally {
    busy = false;
  }
});
</script>
"""

Draw = Callable[[], str]
"""The whole page as it is now."""


class LiveReport:
    """A server of one page.

    draw   makes the page
    files  the logs whose growth is news
    port   of this machine; 0 for any that is free

    Raises UserError if the port is taken, with the next one that is free.
    """

    def __init__(self, draw: Draw, files: Callable[[], list[Path]], port: int) -> None:
        self.draw, self.files = draw, files
        try:
            self.server = ThreadingHTTPServer((HOST, port), _handler(self))
        except OverflowError:
            raise UserError(f"port is {port}: it must be at most 65535") from None
        except OSError as error:
            free = next((other for other in range(port + 1, port + PORTS) if _is_free(other)), None)
            hint = f": the next free one is {free}" if free else ""
            raise UserError(f"port {port} cannot be used ({error.strerror}){hint}") from None
        self.server.daemon_threads = True  # listeners end with the program

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server.server_port}/"

    def serve(self) -> None:
        """Answer until the program is interrupted."""
        try:
            self.server.serve_forever()
        finally:
            self.server.server_close()

    def page(self) -> str:
        """The whole page, with the script."""
        head, policy, rest = self.draw().partition('content="default-src')
        _, _, rest = rest.partition('"')
        return f'{head}content="{POLICY}"{rest}'.replace("</body>", f"{SCRIPT}</body>") if policy else head

    def body(self) -> str:
        """What stands within the page's main element."""
        _, _, rest = self.draw().partition("<main>")
        return rest.rpartition("</main>")[0]

    def events(self) -> Iterator[bytes]:
        """Server-sent events, for as long as they are taken."""
        seen, told = self._state(), time.monotonic()
        yield b": listening\n\n"
        while True:
            time.sleep(LOOK)
            now = self._state()
            if now != seen:
                seen, told = now, time.monotonic()
                yield b"event: changed\ndata: 1\n\n"
            elif time.monotonic() - told > QUIET:
                told = time.monotonic()
                yield b": still here\n\n"

    def _state(self) -> list[tuple[str, int]]:
        return [(str(path), path.stat().st_size if path.exists() else -1) for path in self.files()]


def _is_free(port: int) -> bool:
    with socket(AF_INET, SOCK_STREAM) as tried:
        try:
            tried.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _handler(report: LiveReport) -> type[BaseHTTPRequestHandler]:
    """The answers to requests for a report."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own = {f"{name}:{report.server.server_port}" for name in (HOST, "localhost")}
            if self.headers.get("Host") not in own:
                self.send_error(403, "this report is for this machine alone")
                return
            if self.path == "/events":
                self._stream()
                return
            texts = {"/": report.page, "/body": report.body}
            if self.path not in texts:
                self.send_error(404)
                return
            content = texts[self.path]().encode("utf-8", errors="replace")
            self._begin("text/html; charset=utf-8", len(content))
            self.wfile.write(content)

        def _stream(self) -> None:
            self._begin("text/event-stream")
            try:
                for event in report.events():
                    self.wfile.write(event)
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):  # its reader has gone
                return

        def _begin(self, kind: str, length: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Requests are no news."""

    return Handler
