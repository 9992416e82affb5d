from __future__ import annotations

import json

from contlearn.config import ServingConfig
from contlearn.inference.processor import available_cores
from contlearn.serving.compute.calibration import (
    Layout,
    Trial,
    best_of,
    candidates,
    choose_layout,
    keep_layout,
)


def trial(threads, intra, batch, rate, p95=0.01):
    layout = Layout(threads=threads, intra_threads=intra, batch_texts=batch)
    return Trial(layout=layout, texts_per_second=rate, p95_seconds=p95)


DEFAULT = Layout(threads=2, intra_threads=1, batch_texts=4)


def test_every_split_of_the_cores_is_tried_and_none_takes_more_than_there_are():
    for cores in (1, 2, 3, 8):
        found = candidates(cores)
        assert {(layout.threads, layout.intra_threads) for layout in found} >= {
            (cores, 1),
            (1, cores),
        }
        assert all(layout.threads * layout.intra_threads <= cores for layout in found)


def test_the_default_stays_unless_another_is_clearly_faster():
    near = [trial(2, 1, 4, 1000.0), trial(1, 2, 4, 1040.0)]
    assert best_of(near, DEFAULT).layout == DEFAULT
    far = [trial(2, 1, 4, 1000.0), trial(1, 2, 4, 1300.0, 0.05), trial(1, 2, 1, 1290.0, 0.01)]
    assert best_of(far, DEFAULT).layout == far[2].layout


def test_what_was_measured_here_is_used_and_configuration_wins(tmp_path):
    keep_layout(tmp_path, [trial(1, 2, 16, 900.0)], DEFAULT)
    assert choose_layout(tmp_path, ServingConfig()) == Layout(
        threads=1, intra_threads=2, batch_texts=16
    )
    assert choose_layout(tmp_path, ServingConfig(threads=3, batch_texts=1)) == Layout(
        threads=3, intra_threads=2, batch_texts=1
    )


def test_a_calibration_of_another_machine_or_a_damaged_one_is_passed_over(tmp_path):
    usual = Layout(threads=available_cores())
    assert choose_layout(tmp_path, ServingConfig()) == usual
    keep_layout(tmp_path, [trial(1, 2, 16, 900.0)], DEFAULT)
    path = tmp_path / "calibration.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"machine": value["machine"] | {"cores": 999}}))
    assert choose_layout(tmp_path, ServingConfig()) == usual
    path.write_text("{")
    assert choose_layout(tmp_path, ServingConfig()) == usual
