"""Request ids: ours, which nobody can guess, and clients' own, which belong to whoever came first.

A label that comes later is joined with a text by the request's id. If a second request could take
an id that was used, its text would get the other's label. So a client's id is claimed by the first
request that is answered under it; a later one is answered under an id of ours, and is told so.

    state/requests/<day>.ids    one line a claim: a hash of the id, and who claimed it

Servers of one workspace share the folder, and a server that starts reads it. A claim is one line
written in append mode, then everything that others wrote meanwhile is read: whoever sees another's
claim before the own one has come too late. In doubt (two at the same instant, a disk that refuses)
nobody gets the id, because an id of ours is always right. No lock is held, so no server that
stands still can stop another.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from contlearn.interfaces import Clock

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClaimedIds", "is_client_id", "is_id", "new_id"]

_OWN: Final = re.compile(r"clr-[0-9a-f]{32}")
_ANY: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_AT_ONCE: Final = 256
_BYTES: Final = 16
_LINE: Final = re.compile(rb"([0-9a-f]{16})([0-9a-f]{16})")
# Claims kept in a set before they are sorted in with the others.
_FRESH: Final = 50_000
# Each line is one call in append mode, so that writers never mix lines.
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def _random_ids() -> Iterator[str]:
    """Give ids of 128 random bits; asking the system for each would cost a switch of threads."""
    while True:
        drawn = os.urandom(_BYTES * _AT_ONCE)
        for start in range(0, len(drawn), _BYTES):
            yield "clr-" + drawn[start : start + _BYTES].hex()


class _Drawn(threading.local):
    """Ids drawn ahead; each thread has its own."""

    def __init__(self) -> None:
        self.ids = _random_ids()


_drawn: Final = _Drawn()


def new_id() -> str:
    """Give an id of ours: 128 random bits."""
    return next(_drawn.ids)


def is_id(text: str) -> bool:
    """Say whether a text can be a request's id: up to 128 letters, digits and `. _ : -`."""
    return _ANY.fullmatch(text) is not None


def is_client_id(text: str) -> bool:
    """Say whether a client may give its request this id: the form of ours is ours alone."""
    return is_id(text) and _OWN.fullmatch(text) is None


class ClaimedIds:
    """The clients' ids that were used.

    Args:
        folder: Shared by the servers of a workspace; None remembers in memory only.
        clock: Names the day.
        max_age_days: What is older is forgotten.
        max_bytes: All days together; the oldest go first.
        earlier: Gives the ids of requests from before there was such a folder.
    """

    def __init__(
        self,
        folder: Path | None,
        clock: Clock,
        *,
        max_age_days: int = 30,
        max_bytes: int = 32_000_000,
        earlier: Callable[[], Iterable[str]] = lambda: (),
    ) -> None:
        self._folder, self._clock = folder, clock
        self._max_age_days, self._max_bytes = max_age_days, max_bytes
        self._earlier = earlier
        self._me, self._numbers = os.urandom(4).hex(), itertools.count(1)
        self._sorted: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._fresh: set[int] = set()
        self._read_to: dict[Path, int] = {}
        self._day: date | None = None
        self._today = -1
        self._paths: list[Path] = []

    def start(self) -> None:
        """Read what was claimed before."""
        folder = self._folder
        if folder is None:
            return
        with contextlib.suppress(OSError):
            if not folder.exists():
                self._carry_over(folder)
            self._sweep()
            for path in sorted(folder.glob("*.ids")):
                self._read(path)
        self._fold()

    def _carry_over(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lines = b"".join(_line(_digest(name), self._token()) for name in self._earlier())
        if lines:
            self._begin(self._clock.now().date())
            os.write(self._today, lines)

    def claim(self, request_id: str) -> bool:
        """Take an id; False where it was used, or where that cannot be known."""
        digest = _digest(request_id)
        if self._has(digest):
            return False
        if self._folder is None:
            self._add(digest)
            return True
        try:
            return self._write_and_look(digest)
        except OSError:
            return False

    def _write_and_look(self, digest: int) -> bool:
        today = self._clock.now().date()
        if today != self._day:
            self._begin(today)
        mine = _line(digest, self._token())
        os.write(self._today, mine)
        is_mine = False
        for path in self._paths:
            for line in self._read(path):
                if line == mine[:-1]:
                    is_mine = True
                elif int(line[:16], 16) == digest and not is_mine:
                    return False
        if not is_mine:
            self.close()  # the file was taken away: the next claim begins a new one
        return is_mine

    def _begin(self, today: date) -> None:
        """Open a day's file, and take away those of old days."""
        if self._folder is None:
            raise OSError("no folder is shared")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        # The days beside this one too: another server's clock may be some seconds ahead or behind.
        days = [today + timedelta(days=days) for days in (-1, 1, 0)]
        self._paths = [self._folder / f"{day:%Y%m%d}.ids" for day in days]
        self.close()
        self._today = os.open(self._paths[-1], _APPEND, 0o640)
        self._day = today

    def close(self) -> None:
        """Close the day's file; the next claim opens it again."""
        if self._today >= 0:
            os.close(self._today)
        self._today, self._day = -1, None

    def _read(self, path: Path) -> list[bytes]:
        """Read what was written to a day's file since it was read last, whole lines only."""
        begin = self._read_to.get(path, 0)
        try:
            if path.stat().st_size <= begin:
                return []
            with path.open("rb", buffering=0) as file:
                file.seek(begin)
                data = file.readall()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to[path] = begin + len(whole)
        lines = [line for line in whole.splitlines() if _LINE.fullmatch(line)]
        for line in lines:
            self._add(int(line[:16], 16))
        return lines

    def _token(self) -> str:
        return f"{self._me}{next(self._numbers) & 0xFFFFFFFF:08x}"

    def _has(self, digest: int) -> bool:
        if digest in self._fresh:
            return True
        wanted = np.uint64(digest)
        at = int(np.searchsorted(self._sorted, wanted))
        return at < len(self._sorted) and bool(self._sorted[at] == wanted)

    def _add(self, digest: int) -> None:
        self._fresh.add(digest)
        if len(self._fresh) >= _FRESH:
            self._fold()

    def _fold(self) -> None:
        """Sort in what is new: eight bytes a claim instead of the hundred of a set's member."""
        fresh = np.fromiter(self._fresh, dtype=np.uint64, count=len(self._fresh))
        self._sorted = np.union1d(self._sorted, fresh)
        if self._folder is None:
            self._sorted = self._sorted[: self._max_bytes // 33]
        self._fresh.clear()

    def _sweep(self) -> None:
        """Take away days that are too old, and the oldest beyond the size."""
        if self._folder is None:
            return
        oldest = self._clock.now() - timedelta(days=self._max_age_days)
        left, today = self._max_bytes, f"{self._clock.now():%Y%m%d}"
        for path in sorted(self._folder.glob("*.ids"), reverse=True):
            left -= path.stat().st_size
            if path.stem < f"{oldest:%Y%m%d}" or (left < 0 and path.stem < today):
                path.unlink(missing_ok=True)
                self._read_to.pop(path, None)


def _digest(request_id: str) -> int:
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "big")


def _line(digest: int, token: str) -> bytes:
    return f"{digest:016x}{token}\n".encode()
