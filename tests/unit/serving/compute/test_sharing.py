"""Fair shares among requests. Time goes by what is computed, so nothing depends on the machine."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from contlearn.serving.compute.engine import Engine, EngineLimits
from contlearn.serving.compute.pace import Pace, Reading
from contlearn.serving.compute.pieces import Piece, Request
from contlearn.serving.compute.sharing import FairQueue
from contlearn.serving.http.problems import RequestProblem
from contlearn.serving.versions.version import Answer, LoadedVersion
from contlearn.tasks.text_classification import class_prediction
from contlearn.types import Encoding, LabelSpace


class Scripted:
    """A predictor whose runs take what their characters cost, and a clock that goes by it.

    Before each run the event loop does all that it can do, as on a machine where computing is what
    takes time.
    """

    label_space = LabelSpace(("a",))

    def __init__(self, seconds_per_character):
        self.seconds_per_character = seconds_per_character
        self.now = 1_000.0
        self.texts = []
        self.loop = None

    def clock(self):
        return self.now

    def predict(self, inputs):
        asyncio.run_coroutine_threadsafe(self._settle(), self.loop).result(20)
        for item in inputs:
            self.now += self.seconds_per_character * len(item["text"])
            self.texts.append(item["text"])
        return [class_prediction(item["text"], 1.0, {}) for item in inputs]

    async def _settle(self):
        for _ in range(30):
            await asyncio.sleep(0)


class Served:
    """One lane with one worker; `ask` gives the seconds until the answer, or the problem."""

    def __init__(self, *, seconds_per_text=0.005, **limits):
        self.predictor = Scripted(seconds_per_text / 20)
        self.engine = Engine(1, self.predictor.clock)
        self.lane = self.engine.lane(EngineLimits(**{"workers": 1, **limits}))
        self.version = LoadedVersion(1, 1, self.predictor, Path())

    async def ask(self, count, *, characters=20, name="t", **options):
        texts = [{"text": name.ljust(characters, "-")} for _ in range(count)]
        asked = self.predictor.now
        try:
            await self.lane.compute(self.version, texts, lengths=[characters] * count, **options)
        except RequestProblem as problem:
            await asyncio.sleep(0.001)  # whoever is refused does not ask again without a pause
            return problem
        return self.predictor.now - asked

    def run(self, body):
        async def inside():
            self.predictor.loop = asyncio.get_running_loop()
            self.engine.start()
            try:
                return await body()
            finally:
                await asyncio.to_thread(self.engine.stop)

        return asyncio.run(inside())


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_client_of_single_texts_is_answered_while_another_sends_batches_of_a_thousand(at_once):
    served = Served(seconds_per_text=0.002, max_queue_texts=5_000)
    batches, ended = [], False

    async def batch_client():
        while not ended:
            batches.append(await served.ask(1_000, name="batch"))

    async def body():
        nonlocal ended
        await served.ask(1)
        clients = [asyncio.ensure_future(batch_client()) for _ in range(at_once)]
        await asyncio.sleep(0)
        singles = [await served.ask(1) for _ in range(400)]
        ended = True
        await asyncio.gather(*clients)
        return singles

    singles = served.run(body)
    soon = [s for s in singles if isinstance(s, float) and s <= 1.0]
    assert len(soon) >= 0.95 * len(singles)
    assert max(soon) < 0.1
    # Nor do the batches come to nothing.
    assert [batch for batch in batches if not isinstance(batch, float)] == []


def waiting_request(count):
    return Request(
        version=LoadedVersion(1, 1, Scripted(0.0), Path()),
        inputs=[{"text": "t"}] * count,
        costs=[1.0] * count,
        future=None,
        allowed=10.0,
        deadline=10.0,
        begin_before=1.0,
    )


def test_requests_that_wait_get_equal_shares_and_none_is_starved_by_new_ones():
    queue, batch = FairQueue(), waiting_request(100)
    singles = 0

    def put(request, *, is_new=True):
        queue.put(Piece(None, request, *request.cut(8, 8.0), 0.0), is_new=is_new)

    put(batch)
    for _ in range(7):
        put(waiting_request(1))
    while True:
        piece = queue.take()
        if piece.request is not batch:
            singles += 1
            put(waiting_request(1))
        elif batch.has_more:
            put(batch, is_new=False)
        else:
            break
    assert 650 < singles < 750  # an eighth each: 700 of seven beside 100


def test_large_requests_that_wait_do_not_fill_the_queue_for_small_ones():
    served = Served(seconds_per_text=0.001, max_queue_texts=2_000)

    async def body():
        large = [asyncio.ensure_future(served.ask(1_000)) for _ in range(2)]
        await asyncio.sleep(0)
        further = await served.ask(1_000)
        single = await served.ask(1)
        await asyncio.gather(*large)
        return further, single

    further, single = served.run(body)
    assert (further.status, further.reason) == (503, "queue_full")
    assert isinstance(single, float)


def test_what_cannot_meet_its_deadline_is_refused_before_anything_is_computed():
    served = Served(seconds_per_text=0.02)

    async def body():
        await served.ask(10)
        before = len(served.predictor.texts)
        late = await served.ask(1_000)
        short = await served.ask(100, deadline_seconds=1.0)
        assert len(served.predictor.texts) == before
        return late, short, await served.ask(100)

    late, short, fits = served.run(body)
    assert (late.status, late.reason) == (503, "timeout")
    assert "about 20.0 s, more than its deadline of 10 s" in late.what
    assert "more than its deadline of 1 s" in short.what
    assert fits == pytest.approx(2.0)


def test_what_turns_out_to_be_too_late_is_given_up_as_soon_as_that_is_known():
    served = Served(seconds_per_text=0.1)
    problem = served.run(lambda: served.ask(1_000))
    assert (problem.status, problem.reason) == (503, "timeout")
    assert "more than its deadline of 10 s" in problem.what
    assert len(served.predictor.texts) <= 16  # the first runs, by which the pace is known


def test_a_large_request_does_not_make_an_earlier_one_late_and_a_small_one_is_let_in():
    served = Served(seconds_per_text=0.01)

    async def body():
        await served.ask(1)
        first = asyncio.ensure_future(served.ask(950))
        await asyncio.sleep(0)
        second = await served.ask(200)
        single = await served.ask(1)
        return second, single, await first

    second, single, first = served.run(body)
    assert (second.status, second.reason) == (503, "queue_full")
    assert "would make them late" in second.what
    assert single < 0.2
    assert first < 10.0


def test_short_texts_are_taken_after_long_ones():
    served = Served(seconds_per_text=0.002)

    async def body():
        for _ in range(3):
            await asyncio.gather(*(served.ask(1, characters=5_000) for _ in range(8)))
        return await asyncio.gather(*(served.ask(1) for _ in range(60)))

    assert all(isinstance(seconds, float) for seconds in served.run(body))


def test_a_slow_time_is_forgotten_after_a_pause():
    served = Served(seconds_per_text=0.2)

    async def body():
        await asyncio.gather(*(served.ask(1) for _ in range(5)))
        slow = await served.ask(500)
        served.predictor.seconds_per_character /= 100
        served.predictor.now += 60.0
        return slow, await served.ask(500)

    slow, after = served.run(body)
    assert slow.reason == "timeout"
    assert after == pytest.approx(1.0)


def test_a_request_that_is_given_up_leaves_the_queue_at_once():
    served = Served(seconds_per_text=0.001)

    async def body():
        large = asyncio.ensure_future(served.ask(1_000))
        await served.ask(1)
        large.cancel()
        await asyncio.sleep(0)
        await served.ask(1)
        await served.ask(1)
        return served.lane.waiting

    assert served.run(body) == 0
    assert len(served.predictor.texts) < 100
    assert served.version.users == 0


def test_pace_is_learnt_from_what_comes_out_while_texts_wait():
    pace = Pace(runs=2)
    pace.begin(0.0)
    pace.learn(100.0, 1.0, 0.1, is_last=False)
    assert pace.seconds == pytest.approx(1.0 / 100 / 2)
    for moment in itertools.count(1):
        pace.learn(100.0, 1.0, 0.1 + moment, is_last=False)
        if moment == 20:
            break
    assert pace.seconds == pytest.approx(0.01, rel=0.01)  # 100 units a second
    pace.learn(1.0, 1e9, 1e9, is_last=False)  # the machine slept
    assert pace.seconds < 0.03


def test_tokens_are_estimated_as_texts_had_them_and_only_as_far_as_they_are_read():
    reading = Reading()
    chinese = {"text": "x" * 100}
    answer = Answer(prediction=class_prediction("a", 1.0, {}), tokens=110)
    for _ in range(2_000):
        reading.learn(chinese, 100, answer)
    short, long, ids = reading.costs(
        [chinese, {"text": "x" * 10_000}, Encoding(input_ids=(1,) * 40)], [100, 10_000, 40], 128
    )
    assert short == pytest.approx(118, abs=2)
    assert long == 136
    assert ids == 48
