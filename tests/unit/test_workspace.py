import errno
import os
import subprocess
import sys

import pytest

from contlearn.catalog import Catalog
from contlearn.config import Config
from contlearn.errors import (
    ConfigError,
    StorageError,
    UsageError,
    WorkspaceError,
    WorkspaceLocked,
)
from contlearn.workspace import (
    FileOperations,
    Workspace,
    file_lock,
    output_border,
    publish_folder,
    read_json,
    write_bytes_atomic,
    write_json_atomic,
)


class FailingFiles(FileOperations):
    """Fails one operation with an error number."""

    def __init__(self, operation, number):
        self.operation, self.number = operation, number

    def _fail(self, name):
        if name == self.operation:
            raise OSError(self.number, os.strerror(self.number), "the file")

    def write(self, path, data):
        super().write(path, data[:3])
        self._fail("write")
        super().write(path, data)

    def rename(self, source, target):
        self._fail("rename")
        super().rename(source, target)


@pytest.mark.parametrize("operation", ["write", "rename"])
@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "No permission"), (errno.EIO, "disk reported")],
)
def test_atomic_write_that_fails_leaves_the_old_file(tmp_path, operation, number, says):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match=says):
        write_bytes_atomic(path, b"newer", files=FailingFiles(operation, number))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_round_trip(tmp_path):
    write_json_atomic(tmp_path / "x.json", {"ü": [1, (2, 3)]})
    assert read_json(tmp_path / "x.json") == {"ü": [1, [2, 3]]}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StorageError, match="x.json"):
        read_json(tmp_path / "x.json")


def test_published_folder_is_whole_and_read_only(tmp_path):
    staged = tmp_path / "staged"
    (staged / "deep").mkdir(parents=True)
    (staged / "deep" / "a").write_text("1")
    publish_folder(staged, tmp_path / "7")
    assert (tmp_path / "7" / "deep" / "a").read_text() == "1"
    assert not staged.exists()
    assert (tmp_path / "7" / "deep" / "a").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "7").stat().st_mode & 0o777 == 0o555


def test_publishing_never_replaces_a_folder(tmp_path):
    for name in ("staged", "7"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    with pytest.raises(OSError, match="not empty"):
        publish_folder(tmp_path / "staged", tmp_path / "7")
    assert (tmp_path / "7" / "a").read_text() == "7"


def test_lock_is_refused_while_another_process_has_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from contlearn.workspace import file_lock\n"
        f"with file_lock(Path({str(tmp_path / 'l')!r}), what='x'): print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"in\n"
        with (
            pytest.raises(WorkspaceLocked, match="Another process is promoting"),
            file_lock(tmp_path / "l", what="promoting"),
        ):
            pass
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    with file_lock(tmp_path / "l", what="promoting", wait_seconds=1.0):
        pass


def test_folder_without_configuration_is_no_workspace(tmp_path):
    with pytest.raises(WorkspaceError, match="contlearn init"):
        Workspace(tmp_path).require()


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("sqlite:///state/c.sqlite", None, "{root}/state/c.sqlite"),
        ("sqlite:///state/100%25.sqlite", None, "{root}/state/100%.sqlite"),
        ("sqlite:////var/c.sqlite", None, "/var/c.sqlite"),
        ("postgresql+psycopg://h/db", "h", "db"),
    ],
)
def test_relative_catalog_is_in_the_workspace(tmp_path, url, host, expected):
    config = Config.model_validate({"storage": {"catalog": url}})
    made = Workspace(tmp_path).catalog_url(config)
    assert (made.host, made.database) == (host, expected.format(root=tmp_path))
    assert made.drivername == url.partition(":")[0]


@pytest.mark.parametrize(
    "name", ["my%20ws", "what?", "a#b", ":memory:", "file:x?mode=memory", "a%b", "100%25", "ä ö"]
)
def test_catalog_lies_in_its_workspace_whatever_the_folder_is_called(tmp_path, name):
    workspace = Workspace(tmp_path / name)
    workspace.make_folders()
    with Catalog(workspace.catalog_url(Config())):
        assert (workspace.state / "catalog.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "sqlite:///x?mode=memory"],
)
def test_catalog_that_no_other_process_finds_is_refused(tmp_path, url):
    config = Config.model_validate({"storage": {"catalog": url}})
    with pytest.raises(ConfigError, match="is no file that every process"):
        Workspace(tmp_path).catalog_url(config)


def test_url_of_a_catalog_that_cannot_be_read_is_said_without_what_is_in_it(tmp_path):
    config = Config.model_validate({"storage": {"catalog": "user:secret"}})
    with pytest.raises(ConfigError, match="cannot be read") as error:
        Workspace(tmp_path).catalog_url(config)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-folder/x.csv", "No such file or directory"),
        ("file/x.csv", "Not a directory"),
        ("loop/x.csv", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("folder", "Is a directory"),
    ],
)
def test_a_path_that_was_asked_for_and_cannot_be_is_said_in_words(tmp_path, name, said):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / name
    with pytest.raises(UsageError) as caught, output_border(path):
        write_bytes_atomic(path, b"x")
    assert caught.value.what == f"Nothing can be written there: {said}."
    assert (caught.value.where, caught.value.exit_code) == (str(path), 2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder", "loop"]


@pytest.mark.parametrize("name", ["versions/2", "state/x.csv", "serving", "link/2", "a/../state/x"])
def test_nothing_that_was_asked_for_lands_in_contlearn_s_own_folders(workspace, config, name):
    (workspace.root / "link").symlink_to("versions")
    own = workspace.own_folders(config)
    with (
        pytest.raises(UsageError, match="is contlearn's own"),
        output_border(workspace.root / name, own),
    ):
        pytest.fail("it was let in")
    with output_border(workspace.root / "exports" / "2", own):
        pass


def test_what_fails_for_another_reason_is_left_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), output_border(tmp_path / "x"):
        raise RuntimeError("a bug")
