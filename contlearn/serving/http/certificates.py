"""The server's certificate: read at the start, and again when its files change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.serving.http.rereading import ChangingFiles

__all__ = ["Certificate", "tls_context"]

_FILES: Final = ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs")
_log = logging.getLogger("contlearn.serving")


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Make the context of a server from uvicorn's ssl_* options.

    Raises:
        OSError, ssl.SSLError: When a file cannot be read, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"])
    if "ssl_ca_certs" in options:
        context.load_verify_locations(options["ssl_ca_certs"])
        context.verify_mode = options["ssl_cert_reqs"]
    return context


class Certificate:
    """Gives each new connection the certificate that is in force.

    Args:
        options: uvicorn's ssl_* options.
        served: The context that the server has begun with; every handshake begins there.
    """

    def __init__(self, options: Mapping[str, Any], served: ssl.SSLContext) -> None:
        self._options = options
        self._files = ChangingFiles([Path(options[name]) for name in _FILES if name in options])
        self._current = served
        # Called in every handshake, also of clients that name no host.
        served.sni_callback = self._choose

    def _choose(self, connection: Any, _name: str | None, _served: ssl.SSLContext) -> None:
        connection.context = self._current

    def refresh(self) -> None:
        """Take up files that have changed; those that cannot be used are passed over, and said."""
        if not self._files.have_changed():
            return
        try:
            self._current = tls_context(self._options)
        except (OSError, ssl.SSLError) as error:
            _log.error(
                "certificate refused, the old one is kept",
                extra={
                    "error": str(error),
                    "where": self._options["ssl_certfile"],
                    "hint": "Put PEM files there that belong together; they are read again then.",
                },
            )
        else:
            _log.info("certificate read again", extra={"where": self._options["ssl_certfile"]})
