import os
import signal
import subprocess
import sys
import threading
import time

from contlearn.daemon.slot import UpdateSlot


def wait_until(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_asked_first_goes_first_and_one_at_a_time(tmp_path):
    slot, order, inside = UpdateSlot(tmp_path / "lock"), [], []
    go, stop = threading.Event(), threading.Event()

    def work(name):
        with slot.turn(name, stop.is_set) as mine:
            assert mine
            inside.append(name)
            assert len(inside) == 1
            order.append(name)
            go.wait(30)
            inside.remove(name)

    threads = []
    for number, name in enumerate("abcd"):
        thread = threading.Thread(target=work, args=(name,))
        thread.start()
        threads.append(thread)
        wait_until(lambda n=number: len(slot.waiting()) == n and slot.holder == "a")
    assert slot.waiting() == ("b", "c", "d")
    go.set()
    for thread in threads:
        thread.join()
    assert order == list("abcd")
    assert (slot.holder, slot.waiting()) == (None, ())


def test_workspace_that_asks_again_stands_at_the_end(tmp_path):
    slot, stop, order = UpdateSlot(None), threading.Event(), []
    ready = threading.Barrier(2)

    def greedy():
        ready.wait()
        for _ in range(3):
            with slot.turn("greedy", stop.is_set):
                order.append("greedy")
                wait_until(lambda: "modest" in slot.waiting() or "modest" in order)

    def modest():
        ready.wait()
        wait_until(lambda: slot.holder == "greedy")
        with slot.turn("modest", stop.is_set):
            order.append("modest")

    threads = [threading.Thread(target=greedy), threading.Thread(target=modest)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order.index("modest") == 1


def test_who_is_told_to_stop_leaves_the_queue(tmp_path):
    slot, stop = UpdateSlot(None), threading.Event()
    answers = []

    def wait():
        with slot.turn("b", stop.is_set) as mine:
            answers.append(mine)

    with slot.turn("a", threading.Event().is_set):
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: slot.waiting() == ("b",))
        stop.set()
        thread.join()
    assert answers == [False]
    assert (slot.holder, slot.waiting()) == (None, ())


def test_other_process_of_the_host_waits_and_a_killed_one_lets_go(tmp_path):
    code = (
        "import pathlib, sys, threading, time\n"
        "from contlearn.daemon.slot import UpdateSlot\n"
        f"with UpdateSlot(pathlib.Path({str(tmp_path / 'lock')!r})).turn('x', threading.Event().is_set):\n"
        "    print('mine', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        got = []

        def work():
            with UpdateSlot(tmp_path / "lock").turn("y", threading.Event().is_set) as mine:
                got.append(mine)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(1.0)
        assert got == []
        os.kill(other.pid, signal.SIGKILL)
        thread.join(timeout=30)
        assert got == [True]
