import os
import signal
import threading
import time

import pytest

from contlearn.config.retention import RetentionConfig
from contlearn.errors import ContlearnError
from contlearn.processes.children import ChildLimits, ChildStopped, run_child


def test_a_log_is_as_long_as_the_configuration_says_by_default():
    assert ChildLimits().log_bytes == RetentionConfig().log_bytes == 5_000_000


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Write a module that a child runs."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(text):
        (tmp_path / "child_module.py").write_text(text)
        heard = []
        return (
            lambda **options: run_child(
                "child_module", ["a"], log=tmp_path / "log.txt", on_message=heard.append, **options
            ),
            heard,
        )

    return write


def once_heard(heard, what):
    """Do something as soon as the child has said anything: it is up then."""

    def wait():
        until = time.monotonic() + 60
        while not heard and time.monotonic() < until:
            time.sleep(0.02)
        what()

    threading.Thread(target=wait, daemon=True).start()


def test_messages_are_heard_and_noise_is_passed_over(child):
    run, heard = child(
        "import json\nprint('noise')\nprint('[1]')\nprint(json.dumps({'stage': 'x'}))"
    )
    end = run()
    assert end.returncode == 0
    assert heard == [{"stage": "x"}]


def test_error_in_hearing_a_message_is_not_passed_over(child, tmp_path):
    """What is passed over is a line that is no JSON; a ValueError of the parent is a fault."""
    child('print(\'{"stage": "x"}\')')
    with pytest.raises(ValueError, match="invalid literal"):
        run_child(
            "child_module", [], log=tmp_path / "log.txt", on_message=lambda _: int("what it heard")
        )


def test_last_words_are_kept(child):
    run, _ = child("import sys\nsys.exit('it broke')")
    end = run()
    assert end.returncode == 1
    assert "it broke" in end.log_tail


def test_signal_is_named(child):
    run, _ = child("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert "SIGKILL" in run().explain()


def test_stopped_child_gets_its_grace(child, tmp_path):
    run, heard = child(
        "import signal, sys, time, pathlib\n"
        f"signal.signal(15, lambda *a: (pathlib.Path({str(tmp_path / 'bye')!r}).touch(), sys.exit(0)))\n"
        'print(\'{"stage": "up"}\', flush=True)\ntime.sleep(60)'
    )
    stop = threading.Event()
    once_heard(heard, stop.set)
    with pytest.raises(ChildStopped):
        run(must_stop=stop.is_set, grace_seconds=10.0)
    assert (tmp_path / "bye").exists()


def test_child_that_ignores_the_request_is_killed(child):
    run, heard = child(
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\n"
        'print(\'{"stage": "up"}\', flush=True)\ntime.sleep(60)'
    )
    stop = threading.Event()
    once_heard(heard, stop.set)
    began = time.monotonic()
    with pytest.raises(ChildStopped):
        run(must_stop=stop.is_set, grace_seconds=0.3)
    assert time.monotonic() - began < 30


def test_interrupt_ends_the_child(child):
    run, heard = child(
        "import os, time\nprint('{\"pid\": %d}' % os.getpid(), flush=True)\ntime.sleep(60)"
    )
    once_heard(heard, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run()
    with pytest.raises(ProcessLookupError):
        os.kill(heard[0]["pid"], 0)


def test_error_of_an_unknown_kind_is_still_an_error(child):
    run, _ = child('print(\'{"kind": "Odd", "error": "x"}\')')
    assert type(run().failure) is ContlearnError


def test_child_over_its_memory_is_ended_at_once(child):
    run, _ = child(
        "import time\nblock = bytearray(300_000_000)\nblock[::4096] = b'x' * len(block[::4096])\n"
        "time.sleep(60)"
    )
    end = run(limits=ChildLimits(memory_bytes=150_000_000), grace_seconds=60.0)
    assert end.returncode == -signal.SIGKILL
    assert "more than 150 MB of memory" in end.explain()


def test_memory_of_grandchildren_counts(child):
    run, _ = child(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; b = bytearray(300_000_000);"
        ' b[::4096] = b"x" * len(b[::4096]); time.sleep(60)\'])'
    )
    end = run(limits=ChildLimits(memory_bytes=150_000_000))
    assert end.limit


def test_child_over_its_time_is_asked_and_then_ended(child):
    run, _ = child("import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(60)")
    # Time enough for a busy machine to start it: before that it would not refuse to end.
    end = run(limits=ChildLimits(seconds=4.0), grace_seconds=0.5)
    assert end.returncode == -signal.SIGKILL
    assert "daemon.update_time" in end.explain()


def test_silent_child_is_stuck_and_a_talking_one_is_not(child):
    run, _ = child("import time\ntime.sleep(60)")
    assert "stuck" in run(limits=ChildLimits(stuck_seconds=1.0)).explain()
    run, heard = child(
        'import time\nfor _ in range(8):\n    print(\'{"stage": "x"}\', flush=True)\n    time.sleep(0.5)'
    )
    end = run(limits=ChildLimits(stuck_seconds=30.0))
    assert (end.returncode, end.limit, len(heard)) == (0, "", 8)


def test_child_steps_back_and_counts_its_threads(child):
    run, heard = child(
        "import json, os, time\n"
        "while not os.getpriority(os.PRIO_PROCESS, 0):\n    time.sleep(0.05)\n"
        "print(json.dumps({'nice': os.getpriority(os.PRIO_PROCESS, 0), 'threads': os.environ['OMP_NUM_THREADS']}))"
    )
    assert run(limits=ChildLimits(nice=7, threads=1, seconds=60)).returncode == 0
    assert heard == [{"nice": 7, "threads": "1"}]


def test_child_that_talks_while_it_ends_does_not_block(child):
    run, heard = child(
        "import signal, sys\n"
        "def bye(*_):\n"
        '    for _ in range(20000):\n        print(\'{"stage": "farewell"}\')\n'
        "    sys.stdout.flush()\n    sys.exit(0)\n"
        'signal.signal(15, bye)\nprint(\'{"stage": "up"}\', flush=True)\nsignal.pause()'
    )
    stop = threading.Event()
    once_heard(heard, stop.set)
    began = time.monotonic()
    with pytest.raises(ChildStopped):
        run(must_stop=stop.is_set, grace_seconds=40.0)
    assert time.monotonic() - began < 30


def test_log_that_has_grown_is_put_aside(child, tmp_path):
    (tmp_path / "log.txt").write_bytes(b"x" * 5_001)
    run, _ = child("import sys\nsys.exit('it broke')")
    assert "it broke" in run(limits=ChildLimits(log_bytes=5_001)).log_tail
    assert not (tmp_path / "log.txt.1").exists()
    (tmp_path / "log.txt").write_bytes(b"x" * 5_001)
    assert "it broke" in run(limits=ChildLimits(log_bytes=5_000)).log_tail
    assert (tmp_path / "log.txt").stat().st_size < 1000
    assert (tmp_path / "log.txt.1").stat().st_size == 5_001
