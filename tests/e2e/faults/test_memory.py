"""Fault 6: the device's memory gives out; smaller batches, said, recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.checks import differences
from bench.store import record as records
from bench.store.record import Record


def only(results: Path) -> Record:
    (path,) = results.rglob("s0*.json")
    return records.read(path)


def test_features_and_predictions_go_in_halves_and_scores_stay(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    ((want, want_images),) = undisturbed().values()
    faults = {"memory_features": 3, "memory_inference": 1}
    for store in ("memory", "none"):
        results = tmp_path / store
        done = warm.run(*sweep(results), "--store", store, TRIPWIRE=json.dumps(faults))
        assert done.code == 0, done.text
        assert "out of memory with 5 images at once, trying 2" in done.text and "Traceback" not in done.text
        record = only(results)
        assert record.reduced.keys() == {"features", "inference"} and record.reduced["inference"] == 1
        assert record.reduced["features"] <= 3 and record.training is not None and record.training.batch_size == 8
        ((got, got_images),) = outcome(results).values()
        np.testing.assert_allclose(got_images, want_images, rtol=1e-4)
        for cls, values in want.items():
            for metric, value in values.items():
                assert abs(got[cls][metric] - value) < 0.02, (cls, metric)


def test_a_training_step_that_does_not_fit_halves_the_batch_from_the_first_step_on(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    # what comes out is, bit for bit, the training that was configured with the smaller batch
    want = list(undisturbed(batch_size=2).values())
    results = tmp_path / "results"
    done = warm.run(*sweep(results), TRIPWIRE='{"memory_train": 3}')
    assert done.code == 0, done.text
    assert "train: out of memory with 8 images at once, trying 4" in done.text and "trying 2" in done.text
    assert "not the settings stated: trained with 2 images a step, for want of memory" in done.text
    assert list(outcome(results).values()) == want
    record = only(results)
    assert record.reduced == {"train": 2} and record.training is not None and record.training.batch_size == 2
    assert record.config["batch_size"] == 8
    assert warm.run(*sweep(tmp_path / "fitting")).code == 0
    (why,) = differences.method(only(tmp_path / "fitting"), record)
    assert why == "training batch, reduced for want of memory: as configured -> 2"


def test_a_reduced_training_that_is_killed_goes_on_with_its_reduced_batch(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    want = list(undisturbed(batch_size=4).values())
    results = tmp_path / "results"
    job = warm.start(*sweep(results), TRIPWIRE='{"memory_train": 4, "slow_step_ms": 30}')
    job.until(lambda: bool(list(results.rglob("s0*.ckpt"))))
    job.kill()
    job.wait()
    done = warm.run(*sweep(results))
    assert done.code == 0 and "resumed at step" in done.text, done.text
    assert list(outcome(results).values()) == want and only(results).reduced == {"train": 4}


def test_memory_that_holds_no_single_image_fails_the_cell_and_the_sweep_goes_on(
    warm: Any, sweep: Callable, tmp_path: Path
) -> None:
    for what in ("memory_features", "memory_train", "memory_inference"):
        results = tmp_path / what
        done = warm.run(*sweep(results, seeds="0,1", steps=2), TRIPWIRE=json.dumps({what: 0}))
        assert done.code == 1 and "Traceback" not in done.text, done.text
        assert done.text.count("out of memory with a single image") == 2 and "smaller input_size" in done.text
        record = only(results)
        assert record.status == "failed" and record.scores == {}
        assert record.error is not None and record.error.type == "ExhaustedError"
