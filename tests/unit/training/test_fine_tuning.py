from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from contlearn.config import TrainingConfig
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.training.encoded import count_batches, encode_records, plan_epoch
from contlearn.training.fine_tuning import FineTuning, expected_draws
from contlearn.training.optim import rate_factor
from contlearn.training.resume import latest_state, trained_tensors
from contlearn.types import LabelSpace
from tests.unit.training.conftest import texts


class Killed(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


def training(tiny_model, work, *, kill_at=0, fingerprint="f", measure=None, **settings):
    """A small training; `kill_at` ends it right after that step, after the step's save."""
    from contlearn.tasks.text_classification import TextClassification

    torch.manual_seed(1)
    task, space = TextClassification(), LabelSpace(("billing", "garden", "music"))
    checkpoint = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=space), dropout=0.2
    )
    new, old = texts(space.names, 12), texts(space.names, 5, seed=3)
    data = encode_records([*new, *old], checkpoint, task=task, space=space, max_tokens=32)

    def progress(_stage, done, _total, _message):
        if kill_at and done == kill_at:
            raise Killed

    config = TrainingConfig.model_validate(
        {"epochs": 3, "batch_size": 8, "learning_rate": 5e-4, "checkpoint_steps": 2, **settings}
    )
    return FineTuning(
        checkpoint.model,
        data,
        new=len(new),
        keys=[r.target for r in old],
        replayed=10,
        config=config,
        measure=measure,
        work=work,
        fingerprint=fingerprint,
        seed=5,
        progress=progress,
    )


def weights(run):
    return {name: tensor.clone() for name, tensor in trained_tensors(run.model).items()}


def generators():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("kill_at", [1, 3, 6, 7, 13])
def test_training_goes_on_bit_by_bit_after_a_kill_at_any_step(
    tiny_model, tmp_path, optimizer, kill_at
):
    straight = training(tiny_model, tmp_path / "straight", optimizer=optimizer)
    whole = straight.run()
    after = generators()
    cut = training(tiny_model, tmp_path / "cut", optimizer=optimizer, kill_at=kill_at)
    with pytest.raises(Killed):
        cut.run()
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    resumed = training(tiny_model, tmp_path / "cut", optimizer=optimizer)
    result = resumed.run()
    expected, found = weights(straight), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert generators() == after
    assert result.history == whole.history
    assert (result.steps, result.samples) == (whole.steps, whole.samples)
    assert result.resumed_at == {1: 0, 3: 2, 6: 4, 7: 6, 13: 12}[kill_at]


def test_training_that_was_done_is_not_done_again(tiny_model, tmp_path):
    first = training(tiny_model, tmp_path)
    first.run()
    again = training(tiny_model, tmp_path)
    result = again.run()
    assert result.resumed_at == result.steps == first.result.steps
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(first).values(), weights(again).values(), strict=True)
    )


def test_training_passes_over_the_state_of_another_training(tiny_model, tmp_path):
    training(tiny_model, tmp_path, fingerprint="one").run()
    assert training(tiny_model, tmp_path, fingerprint="two").run().resumed_at == 0


def test_training_survives_a_half_written_state(tiny_model, tmp_path):
    with pytest.raises(Killed):
        training(tiny_model, tmp_path, kill_at=5).run()
    (tmp_path / ".step-00000006.tmp").mkdir()
    (tmp_path / ".step-00000006.tmp" / "weights.safetensors").write_bytes(b"half")
    assert training(tiny_model, tmp_path).run().resumed_at == 4


def test_saved_state_holds_no_pickle_and_only_the_newest_step(tiny_model, tmp_path):
    training(tiny_model, tmp_path).run()
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    step = latest_state(tmp_path, "f").folder.name
    assert names == {
        f"{step}/{name}"
        for name in (
            "weights.safetensors",
            "optimizer.safetensors",
            "random.safetensors",
            "state.json",
        )
    }


@pytest.mark.slow
def test_kill_minus_nine_in_a_process_of_its_own_changes_nothing(tiny_model, tmp_path):
    code = textwrap.dedent(f"""
        import os, signal, sys, torch
        from pathlib import Path
        from tests.unit.training.test_fine_tuning import training
        torch.set_num_threads(1)
        run = training(Path({str(tiny_model)!r}), Path(sys.argv[1]))
        if sys.argv[2] == "kill":
            step = run.after_step
            def after(loss):
                step(loss)
                if run.result.steps == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
            run.after_step = after
        run.run()
        print(sum(float(t.double().sum()) for t in run.model.state_dict().values()), run.result.resumed_at)
    """)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }

    def run(folder, how):
        return subprocess.run(
            [sys.executable, "-c", code, str(folder), how],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    assert run(tmp_path / "a", "kill").returncode == -9
    resumed = run(tmp_path / "a", "run")
    assert resumed.returncode == 0, resumed.stderr
    straight = training(tiny_model, tmp_path / "b")
    straight.run()
    total = sum(float(t.double().sum()) for t in straight.model.state_dict().values())
    assert resumed.stdout.split() == [str(total), "4"]


def test_best_weights_are_always_put_back(tiny_model, tmp_path):
    seen = []
    scores = iter([0.5, 0.9, 0.1])

    def measure():
        seen.append(weights(run))
        return next(scores)

    run = training(tiny_model, tmp_path, measure=measure)
    result = run.run()
    assert result.best_epoch == 1
    assert result.best_score == 0.9
    now = weights(run)
    assert all(torch.equal(now[name], seen[1][name]) for name in now)


def test_training_stops_when_patience_is_over(tiny_model, tmp_path):
    scores = iter([0.9, 0.5, 0.4, 0.99, 0.99])
    run = training(
        tiny_model, tmp_path, measure=lambda: next(scores), epochs=5, early_stopping_patience=2
    )
    result = run.run()
    assert len(result.history) == 3
    assert result.best_epoch == 0


def test_training_does_not_stop_early_with_patience_zero(tiny_model, tmp_path):
    run = training(tiny_model, tmp_path, measure=lambda: 0.5, early_stopping_patience=0)
    assert len(run.run().history) == 3


def test_micro_batches_give_the_gradients_of_the_whole_batch(tiny_model, tmp_path):
    def trained(folder, size):
        run = training(
            tiny_model, tmp_path / folder, micro_batch_size=size, epochs=1, optimizer="sgd"
        )
        run.model.dropout.p = 0.0
        for module in run.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):  # transformers' attention
                module.dropout_prob = 0.0
        run.run()
        return weights(run)

    whole, pieces = trained("whole", 64), trained("pieces", 3)
    for name in whole:
        assert torch.allclose(whole[name], pieces[name], atol=2e-4), name


def test_an_epoch_shows_every_new_input_once_and_a_balanced_draw_of_old_ones(tiny_model, tmp_path):
    run = training(tiny_model, tmp_path)
    shown = [i for batch in run.batches() for i in batch]
    assert sorted(i for i in shown if i < run.new) == list(range(run.new))
    old = [run.keys[i - run.new] for i in shown if i >= run.new]
    counts = [old.count(key) for key in ("billing", "garden", "music")]
    assert sum(counts) == 10
    assert max(counts) - min(counts) <= 1
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("draws", [0, 1, 2, 4, 6, 9, 11])
def test_expected_draws_are_the_mean_of_what_epochs_draw(draws):
    keys = ["a", "b", "a", "c", "a", "b", "a"]
    run = FineTuning.__new__(FineTuning)
    run.new, run.keys, run.replayed = 0, keys, draws
    run.data = types.SimpleNamespace(lengths=torch.ones(len(keys)))
    run.config, run._generator = TrainingConfig(), np.random.default_rng(0)
    epochs = 2000
    drawn = np.zeros(len(keys))
    for _ in range(epochs):
        run._plan_epoch()
        for batch in run._plan:
            np.add.at(drawn, batch, 1)
    expected = expected_draws(keys, draws)
    assert sum(expected) == pytest.approx(draws)
    assert drawn / epochs == pytest.approx(np.array(expected), abs=0.06)


def test_number_of_steps_is_known_before(tiny_model, tmp_path):
    run = training(tiny_model, tmp_path)
    assert run.run().steps == run.total_steps


def test_batches_are_counted_as_plan_epoch_makes_them():
    generator = np.random.default_rng(0)
    for inputs in (0, 1, 7, 8, 9, 127, 128, 129, 255, 256, 300):
        lengths = torch.ones(max(inputs, 1), dtype=torch.long)
        planned = plan_epoch(lengths, range(inputs), batch_size=8, generator=generator)
        assert count_batches(inputs, batch_size=8) == len(planned)


def test_plan_epoch_puts_like_lengths_together():
    generator = np.random.default_rng(0)
    lengths = torch.as_tensor(generator.integers(3, 60, size=128))
    batches = plan_epoch(lengths, range(128), batch_size=8, generator=generator)
    waste = sum(int((max(lengths[b]) - lengths[b]).sum()) for b in batches)
    assert sorted(i for b in batches for i in b) == list(range(128))
    assert waste < 0.1 * int(lengths.sum())


def test_rate_rises_and_falls():
    factors = [rate_factor(step, steps=20, warmup_ratio=0.1) for step in range(20)]
    assert factors[0] == 0.5
    assert factors[1] == max(factors) == 1.0
    assert factors[-1] < 0.1
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_state_is_json_that_anyone_can_read(tiny_model, tmp_path):
    training(tiny_model, tmp_path).run()
    facts = json.loads((latest_state(tmp_path, "f").folder / "state.json").read_text())
    assert facts["done"]
    assert facts["format_version"] == 1
    assert dataclasses.is_dataclass(training(tiny_model, tmp_path).result)


@pytest.mark.slow
def test_request_to_end_saves_the_very_step_and_training_goes_on_from_there(tiny_model, tmp_path):
    """SIGTERM in the middle of an epoch, with no regular checkpoint near."""
    code = textwrap.dedent(f"""
        import os, signal, sys, torch
        from pathlib import Path
        from contlearn.training import interruption
        from tests.unit.training.test_fine_tuning import training
        torch.set_num_threads(1)
        interruption.install()
        run = training(Path({str(tiny_model)!r}), Path(sys.argv[1]), checkpoint_steps=10_000)
        if sys.argv[2] == "end":
            step = run.after_step
            def after(loss):
                if run.result.steps == 4:
                    os.kill(os.getpid(), signal.SIGTERM)
                step(loss)
            run.after_step = after
        run.run()
        print(sum(float(t.double().sum()) for t in run.model.state_dict().values()), run.result.resumed_at)
    """)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }

    def run(folder, how):
        return subprocess.run(
            [sys.executable, "-c", code, str(folder), how],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    straight = run(tmp_path / "a", "run")
    ended = run(tmp_path / "b", "end")
    assert ended.returncode == 143, ended.stderr
    resumed = run(tmp_path / "b", "run")
    assert straight.stdout.split()[0] == resumed.stdout.split()[0]
    assert resumed.stdout.split()[1] == "5"
