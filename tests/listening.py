"""Real listeners for notifications: an HTTP server and an SMTP server in threads of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpListener:
    """Keeps every request; answers with the next status of `answers`, then 204.

    Args:
        check: Called with body and headers as they arrive; what it raises is answered with 401.
    """

    def __init__(self, check: Callable[[bytes, dict[str, str]], object] | None = None) -> None:
        self.check = check
        self.checked: list[object] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.arrived = threading.Condition()

    @contextlib.contextmanager
    def running(self):
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = listener.answers.pop(0) if listener.answers else 204
                headers = {name.lower(): value for name, value in self.headers.items()}
                if listener.check is not None:
                    try:
                        listener.checked.append(listener.check(body, headers))
                    except Exception:
                        status = 401
                with listener.arrived:
                    listener.requests.append((headers, body))
                    listener.arrived.notify_all()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class MailListener:
    """Keeps every mail that the SMTP server took."""

    def __init__(self) -> None:
        self.mails = []

    async def handle_DATA(self, _server, _session, envelope):
        self.mails.append(envelope)
        return "250 OK"

    @contextlib.contextmanager
    def running(self):
        import socket

        from aiosmtpd.controller import Controller

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        controller = Controller(self, hostname="127.0.0.1", port=port)
        controller.start()
        self.port = port
        try:
            yield self
        finally:
            controller.stop()
