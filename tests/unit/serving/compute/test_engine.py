from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from contlearn.serving.compute.engine import Engine, EngineLimits, VersionRetired
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.versions.version import LoadedVersion
from contlearn.tasks.text_classification import class_prediction
from contlearn.telemetry.metrics import make_registry
from contlearn.telemetry.server_metrics import ServerMetrics
from contlearn.types import LabelSpace


class Slow:
    """A predictor that answers with the text, waits when told, and notes what came together."""

    label_space = LabelSpace(("a",))

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, inputs):
        self.gate.wait(5)
        self.calls.append([item["text"] for item in inputs])
        time.sleep(self.seconds * len(inputs))
        if any("poison" in item["text"] for item in inputs):
            raise ValueError("poison")
        return [class_prediction(i["text"], 1.0, {}) for i in inputs]


def version(predictor, number=1):
    return LoadedVersion(number, 1, predictor, Path())


def texts(*values):
    return [{"text": value} for value in values]


def engine(**limits):
    """One lane of an engine of its own; `made.engine` is the engine."""
    chosen = EngineLimits(**{"workers": 2, **limits})
    return Engine(chosen.workers).lane(chosen, ServerMetrics(make_registry(), "m"))


def run(body, made):
    return run_engine(body, made.engine)


def run_engine(body, made):
    async def inside():
        made.start()
        try:
            return await body()
        finally:
            await asyncio.to_thread(made.stop)

    return asyncio.run(inside())


async def ask(made, loaded, *values, **options):
    answers = await made.compute(
        loaded, texts(*values), lengths=[len(value) for value in values], **options
    )
    return [answer.prediction.target for answer in answers]


def test_answers_keep_the_order_of_the_texts_however_they_are_cut():
    made, loaded = engine(batch_texts=3), version(Slow())
    values = [f"text {'x' * (number % 7)} {number}" for number in range(40)]
    assert run(lambda: ask(made, loaded, *values), made) == values
    assert loaded.users == 0
    assert made.waiting == 0


def test_texts_of_like_length_run_together():
    predictor = Slow()
    made = engine(batch_texts=2, workers=1)
    run(lambda: ask(made, version(predictor), "long long", "a", "also long", "b"), made)
    assert predictor.calls == [["long long", "also long"], ["a", "b"]]


def test_what_waits_is_taken_together_and_versions_are_never_mixed():
    first, second = Slow(), Slow()
    # On a clock that stands still every run is quick: what is taken together goes by texts alone.
    limits = EngineLimits(workers=1, batch_texts=8)
    made = Engine(1, lambda: 0.0).lane(limits)
    one, two = version(first, 1), version(second, 2)

    async def body():
        first.gate.clear()
        jobs = [asyncio.ensure_future(ask(made, one, "head"))]
        await asyncio.sleep(0.05)
        jobs += [
            asyncio.ensure_future(ask(made, v, f"t{n}")) for n, v in enumerate([one, one, two, one])
        ]
        await asyncio.sleep(0.05)
        first.gate.set()
        return await asyncio.gather(*jobs)

    assert run(body, made) == [["head"], ["t0"], ["t1"], ["t2"], ["t3"]]
    assert first.calls == [["head"], ["t0", "t1"], ["t3"]]
    assert second.calls == [["t2"]]
    assert one.users == two.users == 0


def test_only_the_guilty_request_fails():
    predictor = Slow()
    made, loaded = engine(workers=1), version(predictor)

    async def body():
        predictor.gate.clear()
        jobs = [
            asyncio.ensure_future(ask(made, loaded, text)) for text in ("a", "b", "poison", "c")
        ]
        await asyncio.sleep(0.05)
        predictor.gate.set()
        return await asyncio.gather(*jobs, return_exceptions=True)

    answers = run(body, made)
    assert [a for a in answers if isinstance(a, list)] == [["a"], ["b"], ["c"]]
    assert isinstance(answers[2], ValueError)
    assert loaded.users == 0


def test_too_much_at_once_is_turned_away_with_a_time_to_come_back():
    predictor = Slow()
    made, loaded = engine(workers=1, max_queue_texts=5), version(predictor)

    async def body():
        predictor.gate.clear()
        jobs = [asyncio.ensure_future(ask(made, loaded, "a", "b", "c", "d"))]
        await asyncio.sleep(0.02)
        with pytest.raises(RequestProblem) as caught:
            await ask(made, loaded, "e", "f")
        predictor.gate.set()
        await asyncio.gather(*jobs)
        return caught.value

    problem = run(body, made)
    assert (problem.status, problem.reason) == (503, "queue_full")
    assert (b"retry-after", b"1") in problem.headers()


def test_a_request_alone_is_taken_even_if_it_is_larger_than_the_queue():
    made = engine(max_queue_texts=2)
    assert len(run(lambda: ask(made, version(Slow()), *"abcdef"), made)) == 6


def test_requests_are_turned_away_when_they_would_wait_too_long():
    made, loaded = engine(workers=1, max_wait_seconds=0.1, batch_texts=1), version(Slow(0.02))

    async def body():
        await ask(made, loaded, "measures the pace")
        jobs = [asyncio.ensure_future(ask(made, loaded, f"t{n}")) for n in range(40)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    answers = run(body, made)
    served = [answer for answer in answers if isinstance(answer, list)]
    refused = [a for a in answers if isinstance(a, RequestProblem) and a.reason == "queue_full"]
    assert len(served) + len(refused) == 40
    assert 3 <= len(served) <= 12


def test_a_pause_of_the_machine_turns_nobody_away_afterwards():
    predictor = Slow(0.005)
    made, loaded = engine(workers=1, batch_texts=1), version(predictor)

    async def body():
        await asyncio.gather(*(ask(made, loaded, f"pace {n}") for n in range(20)))
        predictor.seconds = 2.0
        await ask(made, loaded, "paused")
        predictor.seconds = 0.005
        await asyncio.gather(*(ask(made, loaded, f"after {n}") for n in range(20)))

    run(body, made)
    assert len(predictor.calls) == 41


def test_a_deadline_that_passes_in_the_queue_is_told_and_not_computed():
    predictor = Slow()
    made, loaded = engine(workers=1), version(predictor)

    async def body():
        predictor.gate.clear()
        first = asyncio.ensure_future(ask(made, loaded, "first"))
        await asyncio.sleep(0.02)
        with pytest.raises(RequestProblem) as caught:
            await ask(made, loaded, "late", deadline_seconds=0.15)
        predictor.gate.set()
        await first
        return caught.value

    problem = run(body, made)
    assert (problem.status, problem.reason) == (503, "timeout")
    assert predictor.calls == [["first"]]
    assert loaded.users == 0


def test_a_client_that_goes_away_is_not_computed_for():
    predictor = Slow()
    made, loaded = engine(workers=1), version(predictor)

    async def body():
        predictor.gate.clear()
        first = asyncio.ensure_future(ask(made, loaded, "first"))
        await asyncio.sleep(0.02)
        with pytest.raises(RequestProblem) as caught:
            await ask(
                made, loaded, "nobody", gone=lambda: asyncio.ensure_future(asyncio.sleep(0.01))
            )
        predictor.gate.set()
        await first
        return caught.value

    assert run(body, made).reason == "cancelled"
    assert predictor.calls == [["first"]]


def test_a_version_is_free_only_when_its_last_request_ended():
    predictor = Slow()
    made, loaded = engine(), version(predictor)

    async def body():
        predictor.gate.clear()
        job = asyncio.ensure_future(ask(made, loaded, "a"))
        await asyncio.sleep(0.02)
        assert not await asyncio.to_thread(loaded.retire, 0.05)
        predictor.gate.set()
        await job
        return await asyncio.to_thread(loaded.retire, 5.0)

    assert run(body, made)


def test_a_predictor_that_gives_too_few_answers_is_a_fault_of_the_version():
    class Short(Slow):
        def predict(self, inputs):
            return []

    from contlearn.errors import ServingError

    made = engine()
    with pytest.raises(ServingError, match="gave 0 answers to 1 texts"):
        run(lambda: ask(made, version(Short()), "a"), made)


def test_what_waited_too_long_to_be_begun_is_given_up():
    predictor = Slow()
    made, loaded = engine(workers=1, max_wait_seconds=0.1, batch_texts=1), version(predictor)

    async def body():
        predictor.gate.clear()
        first = asyncio.ensure_future(ask(made, loaded, "first"))
        await asyncio.sleep(0.02)
        late = asyncio.ensure_future(ask(made, loaded, "late"))
        await asyncio.sleep(0.3)
        predictor.gate.set()
        return await asyncio.gather(first, late, return_exceptions=True)

    first, late = run(body, made)
    assert first == ["first"]
    assert (late.status, late.reason) == (503, "queue_full")
    assert predictor.calls == [["first"]]


def test_a_model_that_is_asked_much_leaves_another_its_share():
    busy, other = Slow(0.002), Slow(0.002)
    limits = EngineLimits(workers=1, batch_texts=4, max_wait_seconds=30.0)
    made = Engine(1)
    first, second = made.lane(limits), made.lane(limits)
    loaded, further = version(busy), version(other)

    async def body():
        busy.gate.clear()
        flood = [asyncio.ensure_future(ask(first, loaded, f"a{n}")) for n in range(200)]
        await asyncio.sleep(0.05)
        waiting = [asyncio.ensure_future(ask(second, further, f"b{n}")) for n in range(20)]
        await asyncio.sleep(0.05)
        busy.gate.set()
        await asyncio.gather(*waiting)
        taken = len(busy.calls)
        await asyncio.gather(*flood)
        return taken

    # Both take turns: the second model does not wait for all 200 texts of the first.
    assert run_engine(body, made) < 30


def test_the_background_is_served_only_while_nobody_waits():
    predictor = Slow()
    made = Engine(1)
    limits = EngineLimits(workers=1, batch_texts=1)
    background, front = made.lane(limits, is_background=True), made.lane(limits)
    loaded = version(predictor)

    async def body():
        predictor.gate.clear()
        head = asyncio.ensure_future(ask(front, loaded, "head"))
        await asyncio.sleep(0.05)
        jobs = [asyncio.ensure_future(ask(background, loaded, f"shadow {n}")) for n in range(3)]
        await asyncio.sleep(0)
        jobs += [asyncio.ensure_future(ask(front, loaded, f"user {n}")) for n in range(3)]
        await asyncio.sleep(0.05)
        predictor.gate.set()
        await asyncio.gather(head, *jobs)

    run_engine(body, made)
    names = [call[0].split()[0] for call in predictor.calls]
    assert names == ["head", "user", "user", "user", "shadow", "shadow", "shadow"]


def test_a_version_that_was_retired_in_between_is_not_asked():
    made, loaded = engine(), version(Slow())
    assert loaded.retire(1.0)

    async def body():
        with pytest.raises(VersionRetired):
            await ask(made, loaded, "too late")

    run(body, made)
    assert made.waiting == 0


def test_workers_that_answer_nothing_are_noticed_logged_and_noticed_again_when_they_do(caplog):
    predictor, now = Slow(), [100.0]
    made = Engine(2, lambda: now[0])
    lane, loaded = made.lane(EngineLimits(workers=2)), version(predictor)

    async def body():
        await ask(lane, loaded, "quick")
        assert not made.is_stuck
        predictor.gate.clear()
        job = asyncio.ensure_future(ask(lane, loaded, "stands"))
        while not made._running:
            await asyncio.sleep(0.001)
        now[0] += 4.0
        made.look()
        assert not made.is_stuck
        now[0] += 2.0
        made.look()
        made.look()
        assert made.is_stuck
        predictor.gate.set()
        await job
        made.look()
        return made.is_stuck

    assert run_engine(body, made) is False
    assert [record.message for record in caplog.records] == [
        "no worker answers",
        "workers answer again",
    ]
    assert caplog.records[0].seconds == 6.0


def test_workers_that_are_replaced_in_vain_count_as_silent_until_one_answers():
    from contlearn.serving.compute.watching import WorkerSilent

    predictor, now = Slow(), [100.0]
    made = Engine(1, lambda: now[0])
    lane, loaded = made.lane(EngineLimits(workers=1)), version(predictor)

    def silent(inputs):
        now[0] += 4.0
        raise WorkerSilent("The workers of the server do not answer.")

    async def body():
        predictor.predict = silent
        for _ in range(2):
            with pytest.raises(WorkerSilent):
                await ask(lane, loaded, "a")
        assert made.silent_seconds == 0.0  # nobody waits
        predictor.predict = lambda inputs: (seen.append(made.is_stuck), silent(inputs))
        with pytest.raises(WorkerSilent):
            await ask(lane, loaded, "a")
        del predictor.predict
        await ask(lane, loaded, "a")
        predictor.predict = lambda inputs: (seen.append(made.is_stuck), silent(inputs))
        with pytest.raises(WorkerSilent):
            await ask(lane, loaded, "a")

    seen = []
    run_engine(body, made)
    assert seen == [True, False]
