"""Talking to systemd: ready, alive, reloading, stopping. Silent where no systemd listens.

Source: sd_notify(3), the protocol of NOTIFY_SOCKET; sd_watchdog_enabled(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

__all__ = ["ServiceManager"]


class ServiceManager:
    """The service manager that started this process, if it wants to hear of it.

    Args:
        environ: Where NOTIFY_SOCKET and WATCHDOG_USEC are looked up.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environ is None else environ
        self.address = variables.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = 0.0
        pid = variables.get("WATCHDOG_PID", str(os.getpid()))
        if self.address and pid == str(os.getpid()):
            with contextlib.suppress(ValueError):
                self.watchdog_seconds = int(variables.get("WATCHDOG_USEC", "0")) / 1e6

    def tell(self, **fields: str) -> bool:
        """Send fields such as READY="1"; give whether somebody was told."""
        if not self.address.startswith(("/", "@")):
            return False
        # A name that begins with @ lies in the abstract namespace.
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        lines = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(address)
                sender.sendall(lines.encode("utf-8"))
        except OSError:
            return False  # a service manager that is gone must not take us along
        return True

    def ready(self, status: str) -> None:
        """Say that start-up, or a reload, is done."""
        self.tell(READY="1", STATUS=status)

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends it."""
        self.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def stopping(self, status: str) -> None:
        """Say that the end has begun."""
        self.tell(STOPPING="1", STATUS=status)

    def alive(self, status: str) -> None:
        """Keep the watchdog quiet, and say what goes on."""
        if self.watchdog_seconds:
            self.tell(WATCHDOG="1", STATUS=status)
        else:
            self.tell(STATUS=status)
