from __future__ import annotations

import socket
import subprocess
import sys
import threading

import psutil
import pytest

from contlearn.serving.compute.messages import Channel, bound_waits, receive, send
from contlearn.serving.compute.watching import ProcessWatch, Silent


def looks(watch, most=100):
    for number in range(1, most + 1):
        try:
            watch()
        except Silent as error:
            return number, str(error)
    return most, None


@pytest.fixture
def busy():
    process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_a_process_that_computes_has_its_time_and_one_that_stands_still_is_given_up(busy):
    def look_in_turns(watch):
        # Between two looks it has computed, however busy the machine is.
        for number in range(1, 20):
            before = sum(busy.cpu_times()[:2])
            while sum(busy.cpu_times()[:2]) == before:
                pass
            try:
                watch()
            except Silent as error:
                return number, str(error)
        return None

    assert look_in_turns(ProcessWatch(busy.pid)) is None
    assert look_in_turns(ProcessWatch(busy.pid, most_seconds=1.0)) == (
        4,
        "it did not answer within 1 s",
    )
    busy.suspend()
    assert looks(ProcessWatch(busy.pid)) == (9, "it took no processor time for 2 s")


def test_a_process_that_nobody_can_look_into_is_bounded_by_time_alone():
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    assert looks(ProcessWatch(gone.pid)) == (100, None)
    assert looks(ProcessWatch(gone.pid, most_seconds=3.0))[0] == 12


def test_messages_keep_their_bytes_and_their_order_however_they_arrive():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(theirs)
        send(ours, {"a": 1}, tail=b"12345")
        send(ours, ["b"])
        assert [(m, bytes(t)) for m, t in (channel.receive(), channel.receive())] == [
            ({"a": 1}, b"12345"),
            (["b"], b""),
        ]
        large = {"text": "x" * 1_000_000}
        sender = threading.Thread(target=send, args=(ours, large), kwargs={"tail": b"y" * 300_000})
        sender.start()
        message, tail = channel.receive()
        sender.join()
        assert (message, bytes(tail)) == (large, b"y" * 300_000)
        send(ours, "whole")
        assert receive(theirs) == "whole"
        ours.close()
        with pytest.raises(ConnectionError):
            channel.receive()


def test_whoever_waits_too_long_for_a_message_gives_up():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bound_waits(ours, 0.01)
        asked = []

        def patience():
            asked.append(1)
            if len(asked) == 3:
                raise Silent("enough")

        with pytest.raises(Silent, match="enough"):
            Channel(ours).receive(lambda: patience)
        asked.clear()
        with pytest.raises(Silent, match="enough"):  # nobody reads: the socket is full
            send(ours, "x" * 5_000_000, lambda: patience)
