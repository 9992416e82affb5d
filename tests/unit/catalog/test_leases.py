"""Leases in a file: a skewed clock, another container, a holder that stands still."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.leases import (
    hold_lease,
    holder_of,
    lease_lost,
    require_lease,
    wait_for_lease,
)
from contlearn.catalog.schema import leases
from contlearn.errors import LeaseLost, StorageError, WorkspaceLocked

HERE = Path(__file__).parents[3]


@pytest.fixture
def catalog(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as made:
        yield made


def write_row(catalog, **values):
    row = {"name": "x", "owner": "", "token": 7, "expires_at": 0.0, "purpose": "testing"}
    with catalog.write() as connection:
        connection.execute(leases.delete())
        connection.execute(leases.insert().values({**row, **values}))


def row(catalog):
    with catalog.read() as connection:
        return connection.execute(sa.select(leases)).one()


def here(pid):
    """The owner of that number in another PID namespace of this host, as a container's is."""
    from contlearn.processes.facts import current_owner

    host, boot, _, _, start = current_owner().rsplit(":", 4)
    return f"{host}:{boot}:4026000000:{pid}:{start}"


class Renewed:
    """A holder that renews its row as one on another machine does."""

    def __init__(self, catalog, owner, every=0.05, ahead=60.0):
        self.stop = threading.Event()
        write_row(catalog, owner=owner, expires_at=time.time() + ahead)

        def work():
            while not self.stop.wait(every):
                with catalog.write() as connection:
                    changed = leases.update().values(expires_at=time.time() + ahead)
                    connection.execute(changed.where(leases.c.token == 7))

        self.thread = threading.Thread(target=work)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def refused(catalog, seconds=10.0):
    with (
        pytest.raises(WorkspaceLocked, match="is testing"),
        hold_lease(catalog, "x", purpose="y", seconds=seconds, heartbeat_seconds=0.05),
    ):
        raise AssertionError("two holders")


@pytest.mark.parametrize("ahead", [60.0, -30.0], ids=["in time", "by a clock set back"])
def test_lease_of_a_container_that_shares_the_hosts_name_is_not_stolen(catalog, ahead):
    # Its number belongs to no process here.
    with Renewed(catalog, here(2**22), ahead=ahead):
        refused(catalog)


def test_lease_is_not_stolen_by_a_clock_that_runs_ahead(catalog):
    # Its renewals are past for us, who are 90 s ahead of it.
    with Renewed(catalog, "elsewhere:boot:ns:1:2", ahead=-89.0):
        refused(catalog)


def test_lease_of_a_holder_that_cannot_be_seen_is_taken_when_it_stays_unrenewed(catalog):
    for expires_at in (time.time() - 5.0, time.time() + 3600.0):  # a clock far ahead, then gone
        write_row(catalog, owner="elsewhere:boot:ns:1:2", expires_at=expires_at)
        with hold_lease(catalog, "x", purpose="y", seconds=0.3, heartbeat_seconds=0.1) as token:
            assert token == 8


def test_holder_whose_row_was_taken_is_told(catalog):
    lost = threading.Event()
    with hold_lease(
        catalog, "x", purpose="y", seconds=3, heartbeat_seconds=0.05, lost=lost
    ) as token:
        require_lease(catalog, "x", token)
        with catalog.write() as connection:
            taken = leases.update().values(token=99, owner="elsewhere:b:n:4:5", purpose="z")
            connection.execute(taken)
        assert lost.wait(20)
        with pytest.raises(LeaseLost) as error:
            require_lease(catalog, "x", token)
    assert "pid 4 on elsewhere has taken over" in error.value.what
    assert error.value.where == f"lease 'x' in {catalog.place}"
    assert "the same command takes the work up again" in error.value.hint
    assert error.value.exit_code == WorkspaceLocked.exit_code == 4
    assert row(catalog).token == 99  # and the end of the block lets go of nothing


def test_holder_whose_lease_somebody_ended_is_told(catalog):
    lost = threading.Event()
    with hold_lease(catalog, "x", purpose="y", seconds=3, heartbeat_seconds=0.05, lost=lost):
        with catalog.write() as connection:
            connection.execute(leases.update().values(expires_at=0.0))
        assert lost.wait(20)
    assert "has taken over" not in lease_lost(catalog, "x").what


@pytest.mark.slow
def test_who_waits_judges_by_its_own_running_clock(catalog):
    write_row(catalog, owner="elsewhere:boot:ns:1:2", expires_at=time.time() + 1e6)
    stop = threading.Event()
    assert wait_for_lease(catalog, "x", seconds=0.3, heartbeat_seconds=0.05, stop=stop)
    assert row(catalog).expires_at == 0.0
    with Renewed(catalog, "elsewhere:boot:ns:1:2", ahead=-1e6):
        threading.Timer(6.0, stop.set).start()
        assert not wait_for_lease(catalog, "x", seconds=5.0, heartbeat_seconds=0.05, stop=stop)


def test_nobody_is_judged_while_another_writes_for_long(catalog, tmp_path):
    """A large file is committed for longer than a lease: its holder cannot renew meanwhile."""
    write_row(catalog, owner="elsewhere:boot:ns:1:2", expires_at=time.time() + 60)
    code = (
        "import sys; from contlearn.catalog import Catalog\n"
        f"with Catalog('sqlite:///{tmp_path}/c.sqlite') as catalog, catalog.write() as c:\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    stop, found = threading.Event(), []
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE
    ) as other:
        assert other.stdout.readline() == b"in\n"
        assert catalog.writers() == (other.pid,)

        def wait():
            found.append(
                wait_for_lease(catalog, "x", seconds=0.2, heartbeat_seconds=0.1, stop=stop)
            )

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(1.0)
        assert found == []
        other.stdin.close()
    thread.join(timeout=30)
    assert found == [True]


def test_busy_catalog_says_who_writes_into_it(tmp_path):
    code = (
        "import sys; from contlearn.catalog import Catalog\n"
        f"with Catalog('sqlite:///{tmp_path}/c.sqlite') as catalog, catalog.write() as c:\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE
    ) as other:
        assert other.stdout.readline() == b"in\n"
        with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as catalog:

            @sa.event.listens_for(catalog.engine, "connect")
            def _impatient(connection, _record):
                connection.execute("PRAGMA busy_timeout=50")

            with pytest.raises(StorageError, match=f"busy: process {other.pid}"):
                write_row(catalog)
        other.stdin.close()


def test_of_many_that_want_a_free_lease_one_has_it(catalog, tmp_path):
    held, told = [], []
    begin = threading.Barrier(6)

    def race():
        with Catalog(f"sqlite:///{tmp_path}/c.sqlite") as mine:
            begin.wait()
            try:
                with hold_lease(mine, "x", purpose="testing", seconds=60) as token:
                    held.append(token)
                    done.wait()
            except WorkspaceLocked as error:
                told.append(error)

    done = threading.Event()
    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(held) + len(told) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert held == [1]
    assert len(told) == 5


def test_holder_that_cannot_be_judged_is_shown_until_its_lease_runs_out(catalog):
    write_row(catalog, owner=here(2**22), expires_at=time.time() + 60)
    assert holder_of(catalog, "x").purpose == "testing"
    write_row(catalog, owner=here(2**22), expires_at=time.time() - 60)
    assert holder_of(catalog, "x") is None


@pytest.mark.slow
def test_who_slept_itself_judges_nobody_by_that_time(catalog, tmp_path):
    """Holder and waiter are stopped together, as in a machine that sleeps: the lease stays."""
    code = (
        "import sys, threading; from contlearn.catalog import Catalog\n"
        "from contlearn.catalog.leases import wait_for_lease\n"
        f"with Catalog('sqlite:///{tmp_path}/c.sqlite') as catalog:\n"
        "    print('in', flush=True)\n"
        "    wait_for_lease(catalog, 'x', seconds=4.0, heartbeat_seconds=0.1,\n"
        "        stop=threading.Event())\n"
        "print('over', flush=True)"
    )
    write_row(catalog, owner="elsewhere:boot:ns:1:2", expires_at=time.time() + 60)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=HERE) as waiter:
        try:
            assert waiter.stdout.readline() == b"in\n"
            time.sleep(0.5)
            waiter.send_signal(signal.SIGSTOP)
            time.sleep(5.0)
            waiter.send_signal(signal.SIGCONT)
            time.sleep(1.0)
            assert row(catalog).expires_at > 0.0
            assert waiter.stdout.readline() == b"over\n"  # a holder that stays silent is followed
            assert row(catalog).expires_at == 0.0
        finally:
            waiter.kill()
