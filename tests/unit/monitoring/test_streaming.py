from __future__ import annotations

import numpy as np
import pytest

from contlearn.monitoring.streaming import STREAMS, watch_errors

pytest.importorskip("river")


def errors(generator, *parts):
    return np.concatenate([generator.random(count) < rate for count, rate in parts]).tolist()


def test_streams_alarm_when_errors_triple_and_stay_silent_otherwise():
    generator = np.random.default_rng(5)
    moved = watch_errors(errors(generator, (1000, 0.1), (300, 0.4)), recent=300)
    assert [found.detector for found in moved] == list(STREAMS)
    assert all(found.detected for found in moved), moved
    assert all(found.rate == pytest.approx(0.4, abs=0.1) for found in moved)
    calm = watch_errors(errors(generator, (1300, 0.1)), recent=300)
    assert not any(found.detected for found in calm)


def test_an_old_alarm_and_a_falling_error_rate_are_no_news():
    generator = np.random.default_rng(6)
    stream = errors(generator, (600, 0.1), (600, 0.5), (600, 0.5))
    assert not any(found.detected for found in watch_errors(stream, recent=200))
    better = errors(generator, (1000, 0.5), (300, 0.1))
    assert not any(found.detected for found in watch_errors(better, recent=300))


def test_too_few_labels_say_nothing():
    assert watch_errors([True] * 59) == []
