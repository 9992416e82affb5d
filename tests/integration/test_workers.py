"""The processes that compute: they die, they load, they are dropped; no answer is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contlearn.errors import ServingError
from contlearn.serving.compute.engine import EngineLimits
from contlearn.serving.compute.pool import WorkerPool
from contlearn.types import Encoding
from tests.served import (
    Tasks,
    make_workspace,
    point_to,
    running,
    settings_of,
    wait_for,
    write_version,
)


@pytest.fixture
def pool():
    made = WorkerPool(2, Tasks())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def served(tmp_path, pool):
    """A server whose answers come from two workers; and its serving directory."""
    workspace = make_workspace(tmp_path / "ws")
    folder = workspace.root / "serving" / "tickets"
    write_version(folder, 1)
    point_to(folder, 1, 1)
    # A busy machine may take its time to start a worker; nobody is turned away meanwhile.
    patient = EngineLimits(workers=2, ahead=2, max_wait_seconds=60.0, deadline_seconds=60.0)
    with running(settings_of(workspace, load=pool.loader(None), engine=patient)) as server:
        wait_for(lambda: server.service.is_ready)
        yield server, folder


def ask(client):
    answer = client.post("/predict", json={"texts": ["my parcel please"]})
    assert answer.status_code == 200, answer.text
    value = answer.json()
    return value["version"], value["predictions"][0]["label"]


def test_workers_answer_as_the_process_itself_would(tmp_path, pool):
    from contlearn.serving.versions.loading import CheckedLoader

    for name, tagging in (("texts", False), ("tags", True)):
        folder = write_version(tmp_path / name, 1, tagging=tagging)
        here, there = CheckedLoader(Tasks())(folder), pool.load(folder)
        inputs = [{"text": "fly to rome"}, {"text": "my parcel zzz"}]
        for mine, other in zip(
            here.predict_detailed(inputs), there.predict_detailed(inputs), strict=True
        ):
            assert other.prediction == mine.prediction
            assert np.array_equal(other.logits, mine.logits)
            assert np.array_equal(other.projection, mine.projection)
            assert (other.tokens, other.unknown_pieces) == (mine.tokens, mine.unknown_pieces)
        ids = [Encoding(input_ids=(2, 5, 3), word_starts=(0, 1, 2))]
        assert np.array_equal(there.answer_ids(ids)[0].logits, here.answer_ids(ids)[0].logits)
        assert there.vocabulary_size == here.vocabulary_size
        here.close()
        there.close()


def test_a_worker_that_is_killed_costs_no_answer(served, pool):
    server, folder = served
    answers, stop = [], threading.Event()

    def keep_asking():
        with httpx.Client(base_url=server.address, timeout=60) as client:
            while not stop.is_set():
                answers.append(ask(client))

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = list(pool.pids)
    for pid in before:
        wait_for(lambda: len(answers) > 20)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: pid not in pool.pids)
        answers.clear()
    wait_for(lambda: len(answers) > 20)
    # The ones that were started again follow the champion like the others.
    write_version(folder, 2, favoured="returns")
    point_to(folder, 2, 2)
    wait_for(lambda: answers[-1] == (2, "returns"))
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) <= {(1, "shipping"), (2, "returns")}
    assert not set(before) & set(pool.pids)


def test_workers_that_stand_still_are_replaced_and_what_they_were_asked_is_answered(
    tmp_path, pool, caplog
):
    replaced = []
    pool.on_replaced = replaced.append
    version = pool.load(write_version(tmp_path, 1))
    before = [psutil.Process(pid) for pid in pool.pids]
    for process in before:
        process.suspend()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(version.predict, [{"text": "refund"}]) for _ in range(8)]
        assert {job.result(60)[0].target for job in asked} == {"billing"}
    assert replaced == ["silent", "silent"]
    _, alive = psutil.wait_procs(before, timeout=20)
    assert not alive
    records = [r for r in caplog.records if r.message.startswith("worker did not answer")]
    assert {r.pid for r in records} == {process.pid for process in before}
    assert {r.why for r in records} == {"it took no processor time for 2 s"}


@pytest.mark.slow
def test_workers_are_replaced_though_their_host_stands_still_too(tmp_path, pool):
    version = pool.load(write_version(tmp_path, 1))
    (host,) = children(pool._process.pid)
    stopped = [host, *(psutil.Process(pid) for pid in pool.pids)]
    for process in stopped:
        process.suspend()
    assert version.predict([{"text": "refund"}])[0].target == "billing"
    assert version.predict([{"text": "refund"}])[0].target == "billing"
    assert not host.is_running() or host.status() == psutil.STATUS_ZOMBIE


def test_a_dropped_version_ends_workers_that_stand_still(tmp_path, pool):
    version = pool.load(write_version(tmp_path, 1))
    processes = [*children(pool._process.pid), *map(psutil.Process, pool.pids)]
    processes[-1].suspend()
    version.close()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


def test_a_question_that_lies_ready_in_a_worker_that_is_killed_is_answered_by_another(
    tmp_path, pool
):
    version = pool.load(write_version(tmp_path, 1))
    workers = [psutil.Process(pid) for pid in pool.pids]
    for worker in workers:
        worker.suspend()
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(version.predict, [{"text": "refund"}]) for _ in range(8)]
        sent = next(iter(pool._versions.values()))
        wait_for(lambda: sum(worker.asked for worker in sent.workers) == 8)
        for worker in workers:
            worker.kill()
        assert {job.result(60)[0].target for job in asked} == {"billing"}


def children(pid):
    return psutil.Process(pid).children()


def test_workers_share_the_memory_of_the_process_that_loaded(tmp_path, pool):
    pool.load(write_version(tmp_path, 1))
    (host,) = children(pool._process.pid)
    workers = [psutil.Process(pid) for pid in pool.pids]
    assert {worker.ppid() for worker in workers} == {host.pid}
    assert all(worker.num_threads() == 1 for worker in (host, *workers))
    for worker in workers:
        memory = worker.memory_full_info()
        assert memory.uss < 0.5 * memory.rss


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["at once", "late"])
def test_a_version_that_is_being_loaded_survives_the_end_of_the_fork_server(
    tmp_path, pool, monkeypatch, seen
):
    first = pool.load(write_version(tmp_path / "1", 1))
    second_folder = write_version(tmp_path / "2", 2, favoured="returns")
    process, sent = pool._process, threading.Event()
    os.kill(process.pid, signal.SIGSTOP)  # the order waits in its socket
    passing = pool._pass

    def passed(order, sockets):
        passing(order, sockets)
        sent.set()

    monkeypatch.setattr(pool, "_pass", passed)
    if seen == "late":
        # The kernel closes a process's sockets a moment before its parent can see that it ended.
        monkeypatch.setattr(process, "poll", lambda: None)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(pool.load, second_folder)
        assert sent.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        second = loading.result(60)
    for predictor, label in ((first, "billing"), (second, "returns")) * 4:
        assert predictor.predict([{"text": "refund"}])[0].target == label


def test_a_worker_is_replaced_though_its_host_is_gone(tmp_path, pool):
    version = pool.load(write_version(tmp_path, 1))
    (host,) = children(pool._process.pid)
    before = list(pool.pids)
    host.kill()
    os.kill(before[0], signal.SIGKILL)
    for _ in range(4):
        assert version.predict([{"text": "refund"}])[0].target == "billing"
    after = list(pool.pids)
    assert before[0] not in after
    assert before[1] in after
    # And that one too is replaced, by the new host.
    os.kill(before[1], signal.SIGKILL)
    for _ in range(4):
        assert version.predict([{"text": "refund"}])[0].target == "billing"
    assert before[1] not in pool.pids


def test_runs_spread_over_cores_answer_alike(tmp_path):
    folder = write_version(tmp_path, 1)
    wide = WorkerPool(1, Tasks(), intra_threads=2)
    wide.start()
    try:
        there = wide.load(folder)
        (pid,) = wide.pids
        assert there.predict([{"text": "refund"}])[0].target == "billing"
        assert psutil.Process(pid).num_threads() == 2
    finally:
        wide.stop()
    wait_for(lambda: not psutil.pid_exists(pid))  # not even as a zombie


def test_a_version_that_cannot_be_loaded_leaves_nothing_behind(tmp_path, pool):
    folder = write_version(tmp_path, 1)
    with (folder / "model.onnx").open("r+b") as file:
        file.write(b"damaged")
    with pytest.raises(ServingError, match="model is not as it was written") as caught:
        pool.load(folder)
    assert str(folder) in str(caught.value.where)
    good = pool.load(write_version(tmp_path / "other", 2))
    assert good.predict([{"text": "refund"}])[0].target == "billing"


def test_a_version_that_was_dropped_is_gone_and_fails_alone(tmp_path, pool):
    first, second = (pool.load(write_version(tmp_path / str(n), n)) for n in (1, 2))
    first.close()
    with pytest.raises(ServingError, match="not loaded any more"):
        first.predict([{"text": "refund"}])
    assert second.predict([{"text": "refund"}])[0].target == "billing"


def test_a_dropped_version_takes_its_processes_along(tmp_path, pool):
    version = pool.load(write_version(tmp_path, 1))
    processes = [*children(pool._process.pid), *map(psutil.Process, pool.pids)]
    assert len(processes) == 3
    version.close()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


SERVER = """
import sys, time
from pathlib import Path
from contlearn.serving.compute.pool import WorkerPool
from tests.served import Tasks
pool = WorkerPool(2, Tasks())
pool.start()
pool.load(Path(sys.argv[1]))
print(pool._process.pid, *pool.pids, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_with_the_server_however_it_ends(tmp_path):
    folder = write_version(tmp_path, 1)
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        pids = [int(word) for word in server.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids] + children(pids[0])
        for process in processes:
            process.send_signal(signal.SIGTERM)  # as systemd does to all processes of a service
        # Whoever is told to end while it answers goes on until the server lets go of it.
        _, alive = psutil.wait_procs(processes, timeout=0.5)
        assert len(alive) == len(processes) == 4
        server.kill()
    _, alive = psutil.wait_procs(processes, timeout=20)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not alive


def scraped(client):
    """Give every sample of the server's metrics."""
    text = client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples, name, **labels):
    return sum(
        value
        for (other, has), value in samples.items()
        if other == name and set(labels.items()) <= set(has)
    )


def test_counters_of_two_workers_add_up_and_a_killed_one_leaves_no_series(served, pool):
    server, _ = served
    with httpx.Client(base_url=server.address, timeout=60) as client:

        def ask_for_a_while(texts=3, requests=15):
            def go():
                with httpx.Client(base_url=server.address, timeout=60) as own:
                    for _ in range(requests):
                        body = {"texts": ["my parcel please"] * texts}
                        assert own.post("/predict", json=body).status_code == 200

            threads = [threading.Thread(target=go) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return 4 * requests, 4 * requests * texts

        scraped(client)  # so that the route of the scrapes has its series
        requests, texts = ask_for_a_while()
        before = scraped(client)
        killed = list(pool.pids)
        os.kill(killed[0], signal.SIGKILL)
        more_requests, more_texts = ask_for_a_while()
        wait_for(lambda: killed[0] not in pool.pids)
        after = scraped(client)
    for samples, asked, answered in (
        (before, requests, texts),
        (after, requests + more_requests, texts + more_texts),
    ):
        assert total(samples, "contlearn_http_requests_total", route="/predict") == asked
        assert total(samples, "contlearn_predictions_total", label="shipping") == answered
        assert total(samples, "contlearn_prediction_confidence_ratio_count") == answered
        assert total(samples, "contlearn_infer_batch_rows_sum") >= answered
        assert total(samples, "contlearn_infer_in_flight") == 0
    # One process counts: nothing is named after a worker, and nothing of the dead one stays.
    assert {key for key in after if key not in before} == set()
    assert not any(
        str(pid) in value for pid in killed for _, labels in after for _, value in labels
    )
