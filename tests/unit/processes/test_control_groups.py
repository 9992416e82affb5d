"""Files laid out as the kernel lays them out: what is read and written, and when nothing is touched.

The kernel's own part (holding the limit) is not tried here; the watched limit is (test_children.py).
"""

import os

import pytest

from contlearn.processes.control_groups import ControlGroup, find_delegated


@pytest.fixture
def tree(tmp_path):
    """A mounted cgroup2 with the group of a service that was handed over."""
    folder = tmp_path / "system.slice" / "contlearn.service"
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (folder / "cgroup.subtree_control").write_text("\n")
    (folder / "cgroup.procs").write_text("41\n42\n")
    try:
        os.setxattr(folder, "user.delegate", b"1")
    except OSError:
        pytest.skip("needs a file system with user attributes")
    return folder


def places(tree, *, path="/system.slice/contlearn.service"):
    root = tree.parent.parent
    return {
        "own": f"4:memory:/elsewhere\n0::{path}\n",
        "mounts": f"proc /proc proc rw 0 0\ncgroup2 {root} cgroup2 rw 0 0\n",
    }


def test_delegated_group_is_found_also_from_below(tree):
    assert find_delegated(**places(tree)) == tree
    (tree / "daemon").mkdir()
    assert find_delegated(**places(tree, path="/system.slice/contlearn.service/daemon")) == tree


def test_group_that_was_not_handed_over_is_left_alone(tree):
    os.removexattr(tree, "user.delegate")
    assert find_delegated(**places(tree)) is None


def test_without_memory_controller_or_second_version_there_is_none(tree):
    assert find_delegated(own="4:memory:/x\n", mounts="cgroup /x cgroup rw 0 0\n") is None
    (tree / "cgroup.controllers").write_text("cpu\n")
    assert find_delegated(**places(tree)) is None


def test_limit_is_written_and_own_processes_move_down_first(tree):
    base = find_delegated(**places(tree))
    # The kernel makes these files with the folder; a plain folder needs them made.
    (base / "update-7").mkdir()
    group = ControlGroup.make(base, "update-7", memory_bytes=1_000_000)
    assert (base / "daemon" / "cgroup.procs").read_text() == "42"  # the last one that was moved
    assert (base / "cgroup.subtree_control").read_text() == "+memory"
    assert (group.folder / "memory.max").read_text() == "1000000"
    assert group.add(4711)
    assert (group.folder / "cgroup.procs").read_text() == "4711"
    assert not group.ran_out()
    (group.folder / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n")
    assert group.ran_out()


def test_kernel_that_refuses_gives_none(tmp_path):
    assert ControlGroup.make(tmp_path / "gone" / "away", "x", memory_bytes=1) is None
