"""Asks a server at a fixed rate, whatever it answers, or as fast as its connections allow.

    python -m tests.benchmarks.flood ADDRESS BODIES OUT --rate 900 --connections 64 --seconds 60

BODIES holds one JSON body a line. OUT becomes a .npy with one row an answer: when it was due
(monotonic seconds), how long it took from then, its status, the version that answered, and whether
a Retry-After came along. It stops early when its standard input is closed. Written with bare
protocols, because the generator shares the cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import uvloop

_VERSION = re.compile(rb'"version":(\d+)')
_LENGTH = re.compile(rb"content-length: (\d+)", re.I)


class Connection(asyncio.Protocol):
    """One request at a time over one connection."""

    def __init__(self) -> None:
        self.data = b""
        self.answer: asyncio.Future[bytes] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        head = self.data.find(b"\r\n\r\n")
        if head < 0:
            return
        length = int(_LENGTH.search(self.data, 0, head)[1])
        if len(self.data) >= head + 4 + length and self.answer and not self.answer.done():
            self.answer.set_result(self.data)
            self.data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("lost"))


async def flood(options: argparse.Namespace, stop: threading.Event) -> np.ndarray:
    host, port = options.address.removeprefix("http://").split(":")
    requests = [
        b"POST /predict HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (host.encode(), len(body), body)
        for body in Path(options.bodies).read_bytes().splitlines()
    ]
    loop = asyncio.get_running_loop()
    rows: list[tuple[float, float, int, int, int]] = []
    begun = time.monotonic()
    until = begun + options.seconds
    place = 0

    async def ask(connection: Connection, due: float) -> Connection:
        nonlocal place
        place += 1
        status, version, retry = 0, 0, 0
        try:
            if connection.transport is None:
                _, connection = await loop.create_connection(Connection, host, int(port))
            connection.answer = loop.create_future()
            connection.transport.write(requests[place % len(requests)])
            data = await asyncio.wait_for(connection.answer, 60)
            status = int(data[9:12])
            found = _VERSION.search(data)
            version = int(found[1]) if found else 0
            retry = int(b"retry-after" in data[:2000])
        except (OSError, TimeoutError):
            connection = Connection()
        rows.append((due, time.monotonic() - due, status, version, retry))
        return connection

    if not options.rate:

        async def chain() -> None:
            connection = Connection()
            while time.monotonic() < until and not stop.is_set():
                connection = await ask(connection, time.monotonic())

        await asyncio.gather(*(chain() for _ in range(options.connections)))
        return np.array(rows)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(options.connections):
        free.put_nowait(Connection())
    tasks: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        free.put_nowait(await ask(await free.get(), due))

    number = 0
    while (due := begun + number / options.rate) < until and not stop.is_set():
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    await asyncio.gather(*tasks)
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("bodies")
    parser.add_argument("out")
    parser.add_argument("--rate", type=float, default=0.0, help="0: as fast as it goes")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    np.save(options.out, uvloop.run(flood(options, stop)))


if __name__ == "__main__":
    main()
