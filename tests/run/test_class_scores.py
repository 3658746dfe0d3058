from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bench.api import Sample
from bench.errors import UsageError
from bench.metrics import evaluate_class
from bench.registry import DATASETS
from bench.run.class_scores import OF_OBJECTS, by_family, of_authors


def sample(number: int, label: int, family: str = "", unit: str = "") -> Sample:
    return Sample(
        f"a/{number}", "a", "test", label, "bad" if label else "good", Path(f"{number}.png"), family=family, unit=unit
    )


def test_most_datasets_have_none() -> None:
    samples = [sample(0, 0), sample(1, 1)]
    assert dict(by_family(samples, np.array([0.1, 0.2]))) == {}
    dataset = DATASETS.load("folder")(Path())
    assert of_authors(dataset, samples) == ()
    assert of_authors(dataset, [*samples, sample(2, 1, unit="x")]) == OF_OBJECTS


def test_each_family_is_ranked_against_all_normal_images() -> None:
    rng = np.random.default_rng(0)
    families = ["", "logical", "structural", "", "structural", "structural"] * 20
    samples = [sample(number, int(bool(family)), family) for number, family in enumerate(families)]
    scores = rng.normal(size=len(samples)) + [{"": 0.0, "logical": 0.3, "structural": 2.0}[name] for name in families]
    found = by_family(samples, scores)
    want = {}
    for family in ("logical", "structural"):
        picked = [index for index, name in enumerate(families) if name in ("", family)]
        want[f"image/auroc:{family}"] = roc_auc_score([bool(families[i]) for i in picked], scores[picked])
    want["image/auroc:mean"] = sum(want.values()) / 2
    assert dict(found) == pytest.approx(want, abs=1e-12)
    assert found["image/auroc:mean"] != pytest.approx(roc_auc_score([bool(n) for n in families], scores), abs=1e-3)


def test_a_family_without_normal_images_is_undefined_with_a_reason() -> None:
    found = by_family([sample(0, 1, "logical"), sample(1, 1, "structural")], np.array([0.1, 0.2]))
    assert set(found) == set(found.reasons) == {"image/auroc:logical", "image/auroc:structural", "image/auroc:mean"}
    assert set(found.values()) == {None} and all(found.reasons.values())


def test_an_object_has_the_highest_score_and_any_label_of_its_images() -> None:
    rng = np.random.default_rng(1)
    units, labels, scores = [], [], []
    for unit in range(30):
        for view in range(5):
            units.append(f"S{unit:04}")
            labels.append(int(unit % 3 == 0 and view in (1, 3)))  # an anomalous object is seen in some of its views
            scores.append(rng.normal() + 2 * labels[-1])
    order = rng.permutation(len(units)).tolist()  # an object's images need not lie together
    given = [[part[index] for index in order] for part in (scores, labels, units)]
    found = evaluate_class(None, None, given[0], given[1], metrics=OF_OBJECTS, objects=given[2])
    highest = [max(scores[start : start + 5]) for start in range(0, 150, 5)]
    anomalous = [max(labels[start : start + 5]) for start in range(0, 150, 5)]
    assert sum(anomalous) == 10
    assert found["sample/auroc"] == pytest.approx(roc_auc_score(anomalous, highest), abs=1e-12)
    assert found["sample/ap"] == pytest.approx(average_precision_score(anomalous, highest), abs=1e-12)
    assert set(found) == {"sample/auroc", "sample/ap", "sample/f1max"} and not found.reasons


def test_negative_scores_have_a_highest_too() -> None:
    for scores, want in (([-3.0, -2.0, -1.0], 1.0), ([-3.0, -0.5, -1.0], 0.0)):
        found = evaluate_class(None, None, scores, [0, 0, 1], metrics=["sample/auroc"], objects=["x", "x", "y"])
        assert found["sample/auroc"] == want


def test_objects_are_one_an_image() -> None:
    with pytest.raises(UsageError, match="found 2 objects and 3 image_scores"):
        evaluate_class(None, None, [1, 2, 3], [0, 0, 1], metrics=["sample/auroc"], objects=["x", "y"])
    found = evaluate_class(None, None, [1, 2, 3], [0, 0, 1], metrics=["sample/auroc"])
    assert found.reasons == {"sample/auroc": "no objects shown by several images"}
