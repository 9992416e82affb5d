from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile

import pytest

from contlearn.data.intake.inbox import is_open_for_writing, list_claims
from contlearn.errors import WorkspaceLocked
from contlearn.workspace import FileOperations, file_lock, mode_of
from tests.unit.data.taking import make_config, taker

ROWS = [{"text": f"text number {i}", "label": "ab"[i % 2]} for i in range(20)]


@pytest.fixture(
    params=[
        "of the workspace",
        pytest.param(
            "own mount",
            marks=pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs another mount"),
        ),
    ]
)
def inbox(taking, request):
    inbox = taking.workspace.inbox
    if request.param == "of the workspace":
        yield inbox
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        inbox.rmdir()
        inbox.symlink_to(folder)
        yield inbox


class Killed(BaseException):
    """Stands for SIGKILL: once dead, nothing is cleaned up either."""


class Across(FileOperations):
    """Files where nothing can be renamed out of the inbox, and where one operation kills."""

    def __init__(self, at=-1, during=lambda: None):
        self.count, self.at, self.during = 0, at, during

    def _do(self, work, *values):
        self.count += 1
        if self.at != -1 and self.count > self.at:
            raise Killed
        return work(*values)

    def rename(self, source, target):
        if source.parent.name == "inbox":
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        self._do(super().rename, source, target)

    def copy(self, source, target):
        self._do(super().copy, source, target)
        self.during()

    def unlink(self, path):
        self._do(super().unlink, path)

    def set_mode(self, path, mode):
        self._do(super().set_mode, path, mode)

    def fsync_folder(self, folder):
        self._do(super().fsync_folder, folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rested_file_is_taken_and_leaves_the_inbox(taking, inbox):
    taking.write("rows.jsonl", ROWS, inbox)
    report = taking.scan()
    assert (report["accepted"], report["files"][0]["path"]) == (20, "rows.jsonl")
    assert names(inbox) == []
    assert names(taking.workspace.claimed) == []
    assert taking.scan()["files"] == []


def test_names_that_are_not_meant_for_us_stay(taking, inbox):
    for name in (".hidden.jsonl", "rows.jsonl.part", "rows.jsonl.tmp", "other.jsonl.ready"):
        taking.write(name, ROWS, inbox)
    assert taking.scan()["files"] == []
    assert len(names(inbox)) == 4


class Writing:
    """A clock that stands at a file's own time, and lets somebody write while it sleeps."""

    def __init__(self, path, write):
        self._path, self._write = path, write
        self.slept = []

    def now(self):
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._path.stat().st_mtime, UTC)

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        self.slept.append(seconds)
        self._write()


def test_file_that_still_grows_is_left_for_the_next_scan(taking, inbox):
    path = taking.write("rows.jsonl", ROWS[:5], inbox)

    def more():
        with path.open("a") as file:
            file.write(json.dumps(ROWS[10]) + "\n")

    taking.clock = Writing(path, more)
    report = taking.scan()
    assert (report["files"], report["waiting"]) == ([], 1)
    assert names(inbox) == ["rows.jsonl"]
    assert taking.clock.slept == [2.0]


def test_fresh_file_that_does_not_change_is_taken_after_one_rest(taking, inbox):
    path = taking.write("rows.jsonl", ROWS, inbox)
    taking.clock = Writing(path, lambda: None)
    assert taking.scan()["accepted"] == 20
    assert taking.clock.slept == [2.0]


def test_ready_marker_takes_a_file_at_once_and_goes_with_it(taking, inbox):
    path = taking.write("rows.jsonl", ROWS, inbox)
    (inbox / "rows.jsonl.ready").touch()
    taking.clock = Writing(path, lambda: None)
    assert taking.scan()["accepted"] == 20
    assert taking.clock.slept == []
    assert names(inbox) == []


@pytest.mark.skipif(sys.platform != "linux", reason="leases tell of writers on Linux only")
def test_file_that_is_open_for_writing_is_not_taken(taking, inbox):
    path = taking.write("rows.jsonl", ROWS, inbox)
    with path.open("a") as file:
        writer_is_seen = is_open_for_writing(path)
        report = taking.scan()
        file.write(json.dumps({"text": "late", "label": "a"}) + "\n")
    if not writer_is_seen:
        pytest.skip("this file system has no leases")
    assert report["files"] == []
    assert taking.scan()["accepted"] == 21


def test_two_files_of_one_name_are_two_files(taking, inbox):
    for part in (ROWS[:10], ROWS[10:]):
        taking.write("rows.jsonl", part, inbox)
        assert taking.scan()["accepted"] == 10
    assert [row.name for row in taking.files()] == ["rows.jsonl"] * 2


def test_same_content_twice_in_one_scan_is_one_file(taking, inbox):
    taking.write("one.jsonl", ROWS, inbox)
    taking.write("two.jsonl", ROWS, inbox)
    report = taking.scan()
    assert (report["accepted"], report["duplicates"], report["rows"]) == (20, 20, 40)
    assert len(taking.files()) == 1


def test_claim_of_a_killed_run_is_taken_up(taking):
    folder = taking.workspace.claimed / "0123456789ab"
    folder.mkdir()
    taking.write("rows.jsonl", ROWS, folder)
    (taking.workspace.claimed / "empty").mkdir()
    assert taking.scan()["accepted"] == 20
    assert names(taking.workspace.claimed) == []


def test_claims_that_were_tried_least_come_first(taking):
    for token, tries in (("a" * 12, 3), ("b" * 12, 0), ("c" * 12, 1)):
        folder = taking.workspace.claimed / token
        folder.mkdir()
        taking.write(f"{token[0]}.jsonl", ROWS, folder)
        (folder / ".tries").write_bytes(b"." * tries)
    assert [path.name for path in list_claims(taking.workspace)] == [
        "b.jsonl",
        "c.jsonl",
        "a.jsonl",
    ]


def test_file_that_ended_its_readers_is_refused_in_the_end(taking):
    folder = taking.workspace.claimed / "0123456789ab"
    folder.mkdir()
    taking.write("rows.jsonl", ROWS, folder)
    (folder / ".tries").write_bytes(b"." * 50)
    (file,) = taking.scan()["files"]
    assert (file["verdict"], file["reason"]) == ("reject", "binary")
    assert "50 times" in file["message"]
    assert names(taking.workspace.claimed) == []


def test_what_a_killed_run_staged_is_cleared_away(taking):
    workspace = taking.workspace
    staging = workspace.records / ".staging"
    staging.mkdir()
    for path in (
        staging / "half.parquet",
        workspace.records / "orphan.parquet",
        workspace.archive / ".copy.tmp",
        workspace.quarantine / ".rows.jsonl.tmp",
    ):
        path.write_bytes(b"half")
    taking.ingest(taking.write("rows.jsonl", ROWS))
    (row,) = taking.files()
    assert names(workspace.records) == [row.segment]
    assert not list(workspace.state.rglob("*.tmp"))
    assert len(taking.records()) == 20


def test_folder_and_link_in_the_inbox_are_refused_and_kept(taking, inbox, tmp_path):
    (inbox / "folder.jsonl").mkdir()
    taking.write("inside.jsonl", ROWS, inbox / "folder.jsonl")
    secret = taking.write("secret.jsonl", ROWS, tmp_path)
    (inbox / "link.jsonl").symlink_to(secret)
    report = taking.scan()
    assert {f["path"]: f["reason"] for f in report["files"]} == {
        "folder.jsonl": "is-directory",
        "link.jsonl": "not-a-file",
    }
    assert taking.rows() == []
    assert secret.exists()
    kept = taking.workspace.archive / "refused"
    assert len(names(kept)) == 2
    assert names(inbox) == []


def test_fifo_in_the_inbox_does_not_hang_the_scan(taking, inbox):
    os.mkfifo(inbox / "pipe.jsonl")
    (file,) = taking.scan()["files"]
    assert file["reason"] == "not-a-file"


def test_kill_at_any_moment_of_a_move_between_mounts_loses_nothing_and_doubles_nothing(tmp_path):
    with taker(tmp_path / "dry") as made:
        made.write("rows.jsonl", ROWS, made.workspace.inbox)
        counted = Across()
        assert made.scan(files=counted)["accepted"] == 20
    assert counted.count > 6
    for at in range(counted.count):
        with taker(tmp_path / str(at)) as made:
            inbox = made.workspace.inbox
            made.write("rows.jsonl", ROWS, inbox)
            with pytest.raises(Killed):
                made.scan(files=Across(at))
            made.scan(files=Across())
            assert len(made.rows()) == 20, at
            assert names(inbox) == [], at
            assert names(made.workspace.claimed) == [], at


def test_file_that_changes_while_it_is_copied_from_another_mount_stays(taking):
    inbox = taking.workspace.inbox
    path = taking.write("rows.jsonl", ROWS, inbox)

    def write_on():
        with path.open("a") as file:
            file.write(json.dumps({"text": "one more", "label": "a"}) + "\n")

    report = taking.scan(files=Across(during=write_on))
    assert (report["files"], report["waiting"]) == ([], 1)
    assert names(inbox) == ["rows.jsonl"]
    assert taking.scan(files=Across())["accepted"] == 21


def test_copy_from_another_mount_is_open_to_nobody_else_and_then_as_the_file_was(taking):
    path = taking.write("rows.jsonl", ROWS, taking.workspace.inbox)
    path.chmod(0o640)
    while_copying = []
    during = lambda: while_copying.extend(map(mode_of, taking.workspace.claimed.glob("*/.*.part")))  # noqa: E731 # short
    taking.scan(files=Across(during=during))
    (copy,) = taking.workspace.archive.rglob("*.jsonl")
    assert (while_copying, mode_of(copy)) == ([0o600], 0o440)


@pytest.mark.parametrize(
    "name", ["n" * 249 + ".jsonl", "é" * 124 + ".jsonl", "書" * 83 + ".jsonl", "𠀋" * 62 + ".jsonl"]
)
def test_name_of_any_length_is_taken_and_its_refused_rows_are_kept(taking, inbox, name):
    taking.write(name, [*ROWS, {"text": ""}], inbox)
    report = taking.scan()
    assert (report["accepted"], report["rejected"]) == (20, 1)
    assert len(taking.quarantine()) == 1
    assert names(inbox) == []


def test_folder_with_a_name_of_any_length_is_refused_and_kept(taking, inbox):
    (inbox / ("é" * 127)).mkdir()
    assert taking.scan()["files"][0]["reason"] == "is-directory"
    assert len(names(taking.workspace.archive / "refused")) == 1


def test_dry_run_of_a_scan_leaves_the_inbox(taking, inbox):
    taking.write("rows.jsonl", ROWS, inbox)
    assert taking.scan(dry_run=True)["accepted"] == 20
    assert names(inbox) == ["rows.jsonl"]
    assert taking.rows() == []


def test_file_named_as_held_out_is_held_out(tmp_path):
    with taker(tmp_path / "ws", make_config(held_out_files=("test*",))) as taking:
        taking.write("test-1.jsonl", ROWS, taking.workspace.inbox)
        assert taking.scan()["held_out"] == 20


def test_only_one_process_takes_files_in(taking):
    with (
        file_lock(taking.workspace.state / "ingest.lock", what="taking files in"),
        pytest.raises(WorkspaceLocked),
        file_lock(taking.workspace.state / "ingest.lock", what="taking files in"),
    ):
        pytest.fail("two processes hold the lock")


def run_module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "contlearn.data", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_scan_as_a_process_prints_its_report_last(workspace):
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    (workspace.inbox / "rows.jsonl").write_text(rows)
    (workspace.inbox / "rows.jsonl.ready").touch()
    (workspace.inbox / "empty.jsonl").write_text("")
    (workspace.inbox / "empty.jsonl.ready").touch()
    done = run_module(workspace.root)
    *progress, report = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 0
    assert {p["stage"] for p in progress} == {"ingesting"}
    assert report["accepted"] == 20
    assert {f["path"]: f["verdict"] for f in report["files"]} == {
        "empty.jsonl": "reject",
        "rows.jsonl": "ok",
    }


def test_scan_as_a_process_says_what_is_wrong(tmp_path):
    done = run_module(tmp_path)
    error = json.loads(done.stdout)
    assert done.returncode == 2
    assert error["kind"] == "WorkspaceError"
    assert "contlearn.toml" in error["error"]
