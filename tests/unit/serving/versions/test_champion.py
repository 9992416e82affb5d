from __future__ import annotations

import pytest

from contlearn.errors import StorageError
from contlearn.papers.pointer import Pointer, read_pointer
from contlearn.serving.versions.champion import ChampionFollower
from contlearn.telemetry.metrics import encode_metrics, make_registry
from contlearn.telemetry.server_metrics import ServerMetrics
from contlearn.types import LabelSpace
from contlearn.workspace import write_json_atomic


class Model:
    label_space = LabelSpace(("a", "b"))

    def __init__(self, folder):
        self.folder = folder
        self.closed = False

    def predict(self, inputs):
        return []

    def close(self):
        self.closed = True


@pytest.fixture
def follower(tmp_path, clock):
    loaded = []

    def load(folder):
        if (folder / "broken").exists():
            raise ValueError("bad weights")
        loaded.append(Model(folder))
        return loaded[-1]

    registry = make_registry()
    made = ChampionFollower(tmp_path, load, ServerMetrics(registry, "m"), clock)
    made.loaded = loaded
    made.text = lambda: encode_metrics(registry)[0].decode()
    return made


def promote(root, number, epoch, *, broken=False, digest=""):
    folder = root / str(number)
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("{}")
    if broken:
        (folder / "broken").touch()
    write_json_atomic(root / "current.json", {"version": number, "epoch": epoch, "sha256": digest})


def test_nothing_is_followed_before_the_first_promotion(follower, tmp_path):
    assert read_pointer(tmp_path) is None
    assert not follower.check()
    assert follower.current is None
    assert follower.problem is None


def test_a_promotion_is_taken_up_once_and_the_old_model_let_go(follower, tmp_path):
    promote(tmp_path, 1, 1)
    assert follower.check()
    assert not follower.check()
    promote(tmp_path, 2, 2)
    assert follower.check()
    assert (follower.current.number, follower.current.epoch) == (2, 2)
    assert [model.closed for model in follower.loaded] == [True, False]
    assert 'contlearn_model_version{model="m"} 2.0' in follower.text()
    assert 'contlearn_reloads_total{model="m",outcome="success"} 2.0' in follower.text()


def test_a_rollback_is_a_promotion_of_an_older_number(follower, tmp_path):
    for epoch, number in enumerate((2, 1), start=1):
        promote(tmp_path, number, epoch)
        follower.check()
    assert follower.current.number == 1


def test_the_same_version_promoted_again_is_not_loaded_again(follower, tmp_path):
    promote(tmp_path, 1, 1)
    follower.check()
    promote(tmp_path, 1, 2)
    assert not follower.check()
    assert follower.current.epoch == 2
    assert len(follower.loaded) == 1


def test_a_version_that_fails_stays_out_and_is_tried_again_later(follower, tmp_path):
    promote(tmp_path, 1, 1)
    follower.check()
    promote(tmp_path, 2, 2, broken=True)
    assert not follower.check()
    assert follower.current.number == 1
    assert "bad weights" in follower.problem.what
    assert 'contlearn_model_rejected_version{model="m"} 2.0' in follower.text()
    assert not follower.check()  # not at every poll
    assert 'contlearn_reloads_total{model="m",outcome="failed"} 1.0' in follower.text()
    (tmp_path / "2" / "broken").unlink()
    follower.retry_seconds = 0.0
    assert follower.check()
    assert (follower.current.number, follower.problem) == (2, None)
    assert 'contlearn_model_rejected_version{model="m"} 0.0' in follower.text()


def test_a_manifest_that_was_not_promoted_is_refused(follower, tmp_path):
    promote(tmp_path, 1, 1, digest="0" * 64)
    assert not follower.check()
    assert "not the one that was promoted" in follower.problem.what


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"version": "x", "epoch": 1}', b"{}"])
def test_a_damaged_pointer_is_reported_and_the_old_version_answers(follower, tmp_path, content):
    promote(tmp_path, 1, 1)
    follower.check()
    (tmp_path / "current.json").write_bytes(content)
    assert not follower.check()
    assert follower.current.number == 1
    assert "current.json cannot be read" in follower.problem.what
    with pytest.raises(StorageError):
        read_pointer(tmp_path)
    promote(tmp_path, 1, 1)
    follower.check()
    assert follower.problem is None


def test_a_version_in_use_is_not_closed(follower, tmp_path):
    follower.drain_seconds = 0.05
    promote(tmp_path, 1, 1)
    follower.check()
    follower.current.take()
    promote(tmp_path, 2, 2)
    assert follower.check()
    assert not follower.loaded[0].closed


def test_read_pointer_gives_what_is_written(tmp_path):
    promote(tmp_path, 7, 42, digest="ab")
    assert read_pointer(tmp_path) == Pointer(version=7, epoch=42, sha256="ab")
