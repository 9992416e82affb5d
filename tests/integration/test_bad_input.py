"""What goes wrong says what, where and what to do, with its exit code, and damages nothing."""

from __future__ import annotations

import os

import pytest

from tests.texts import classified

pytestmark = pytest.mark.slow


def test_empty_inbox_is_nothing_to_do(program):
    value = program.json("update")
    assert value["outcome"] == "nothing-to-do"
    assert "inbox" in value["message"]


def test_base_model_that_is_not_there(program):
    text = (program.root / "contlearn.toml").read_text()
    (program.root / "contlearn.toml").write_text(text.replace('base = "', 'base = "/nowhere'))
    program.drop("a.jsonl", classified(["billing", "shipping", "garden"], 40))
    # Refused before anything runs, so there is no cycle that failed.
    value = program.json("update", code=2)
    assert "/nowhere" in value["error"]
    assert "model.base" in value["where"]
    assert program.json("status")["last_cycle"] is None
    (program.root / "contlearn.toml").write_text(text)
    assert program.json("update")["outcome"] == "promoted"


def test_hub_model_that_cannot_be_fetched(program):
    text = (program.root / "contlearn.toml").read_text().splitlines()
    changed = [
        line if not line.startswith("base") else 'base = "no-such-org/no-such-model"'
        for line in text
    ]
    (program.root / "contlearn.toml").write_text("\n".join(changed))
    program.drop("a.jsonl", classified(["billing", "shipping", "garden"], 40))
    value = program.json("update", code=2)
    assert "no-such-org/no-such-model" in value["error"]["error"]


def test_unknown_key_stops_before_anything_runs(program):
    with (program.root / "contlearn.toml").open("a") as file:
        file.write("margn = 0.1\n")
    program.drop("a.jsonl", classified(["billing", "shipping", "garden"], 40))
    value = program.json("update", code=2)
    assert "gate.margn" in value["error"]
    assert "gate.margin" in value["error"]
    assert (program.root / "inbox/a.jsonl").exists()


def test_one_label_only_is_judged_and_not_a_crash(program):
    program.drop("a.jsonl", classified(["billing"], 30))
    value = program.json("update", code=3)
    assert value["outcome"] == "refused"


def test_texts_that_cannot_be_predicted(program):
    assert "No version was promoted" in program.json("predict", "x", code=1)["error"]
    assert "no text" in program.json("predict", code=2)["error"]
    assert "no text" in program.json("predict", "--file", os.devnull, code=2)["error"]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a small file system to fill")
def test_full_disk_fails_the_cycle_and_damages_nothing(program, tmp_path):
    """A real full file system: a small tmpfs, filled while the champion is served."""
    import shutil
    import subprocess

    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        shutil.copytree(program.root, mount / "ws")
        program.root = mount / "ws"
        # What is tried here is the disk, not the gate.
        config = program.root / "contlearn.toml"
        config.write_text(
            config.read_text().replace("margin = 0.2", "margin = 0.9")
            + "\n[retention]\nmin_free_bytes = 0\n"
        )
        program.drop("a.jsonl", classified(["billing", "shipping"], 40))
        assert program.json("update")["outcome"] == "promoted"
        program.drop("b.jsonl", classified(["garden"], 40, seed=1))
        free = shutil.disk_usage(mount).free
        (mount / "filler").write_bytes(b"x" * (free - 150_000))
        refused = program.popen("update", "--json")
        out, _ = refused.communicate(timeout=120)
        assert "does not fit on the disk" in out
        assert "are missing" in out
        config.write_text(config.read_text() + "check_space = false\n")
        value = program.json("update", code=1)
        error = value["error"]["error"] if isinstance(value.get("error"), dict) else value["error"]
        assert "disk is full" in error, value
        (mount / "filler").unlink()
        assert program.json("verify")["ok"]
        assert program.json("predict", "invoice")["version"] == 1
        assert program.json("update")["outcome"] == "promoted"
        assert program.json("status")["champion"]["version"] == 2
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
