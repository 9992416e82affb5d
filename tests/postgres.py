"""A PostgreSQL server for tests: the real one, in a folder of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _program(name: str) -> str | None:
    found = shutil.which(name)
    if found is not None:
        return found
    # Debian keeps the server's programs off the path.
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(there[-1]) if there else None


def _user() -> str | None:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


def restart(url: str) -> None:
    """End every connection to a server at once, and start it again."""
    folder = Path(url.partition("host=")[2])
    user = _user()
    options = {} if user is None else {"user": user}
    log = ["-D", folder / "data", "-l", folder / "log"]
    subprocess.run(
        [_program("pg_ctl"), *log, "-m", "immediate", "-w", "restart"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL, **options,
    )  # fmt: skip


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server and give the SQLAlchemy URL of an empty database."""
    pytest.importorskip("psycopg")
    initdb, control = _program("initdb"), _program("pg_ctl")
    if initdb is None or control is None:
        pytest.skip("PostgreSQL is not installed")
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    options = {"cwd": folder, "check": True, "capture_output": True}
    if user is not None:
        shutil.chown(folder, user)
        options["user"] = user
    data = folder / "data"
    try:
        subprocess.run([initdb, "-D", data, "-U", "tester", "-A", "trust", "--no-sync"], **options)
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        start = [control, "-D", data, "-l", folder / "log", "-w", "-o", settings, "start"]
        # Its output must not be a pipe: the server keeps it open.
        subprocess.run(start, **(options | {"capture_output": False, "stdout": subprocess.DEVNULL}))
        try:
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"
        finally:
            subprocess.run([control, "-D", data, "-m", "immediate", "-w", "stop"], **options)
    finally:
        shutil.rmtree(folder)
