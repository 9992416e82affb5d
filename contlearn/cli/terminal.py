"""The program and who started it: no character and no closed pipe ends work that was done.

A signal to end does, wherever the program runs.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final, TextIO

__all__ = ["Terminated", "as_json_text", "ended_by_sigterm", "prepare_streams", "quiet_pipe"]

_HANDLER: Final = "contlearn-plain"
# What we write for looks, as a terminal without it understands it.
_PLAIN: Final = {
    "–": "-", "—": "-", "…": "...", "·": "*", "×": "x", "→": "->", "↓": "v", "≥": ">=", "≤": "<=",
    "“": '"', "”": '"', "‘": "'", "’": "'", "━": "-", "╸": "-", "╺": "-", "\u00a0": " ",
}  # fmt: skip


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the program ends as by Ctrl-C."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While the block runs, SIGTERM ends it as Ctrl-C does.

    Process 1, which the program of a container is, hears of no signal that it has no handler for
    (Linux kill(2)). Who has one already, as a server of ours sets later, keeps it.
    """

    def end(*_: object) -> None:
        raise Terminated

    before = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    if before is not signal.SIG_DFL or not is_main:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, before)


def prepare_streams() -> None:
    """Let standard output and error take every character, whatever their encoding."""
    codecs.register_error(_HANDLER, _write_plainly)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):
                reconfigure(errors=_HANDLER)


def _write_plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding has no sign for: by a plain sign, or as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    shown = "".join(
        _PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")
        for sign in text
    )
    return shown, error.end


def as_json_text(value: object, **options: Any) -> str:
    """Write JSON that is right in the encoding of standard output."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        plain = codecs.lookup(encoding).name != "utf-8"
    except LookupError:
        plain = True
    return json.dumps(value, ensure_ascii=plain, **options)


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """Write while somebody reads; when the reader has gone (`| head`), go on without writing.

    What was done stays done, and the exit code says how it went.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            _close_if_broken(stream)


def _close_if_broken(stream: TextIO) -> None:
    """Send what is still written to a stream without a reader to nowhere."""
    try:
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
