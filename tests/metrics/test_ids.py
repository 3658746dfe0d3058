from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import METRIC_VERSION, SEVEN, parse
from bench.metrics.ids import column, parse_all
from bench.registry import METRICS


@pytest.mark.parametrize("text", [*SEVEN, "pixel/aupro@1", "pixel/aupro@0.05", "pixel/aupro@0.3:grid200"])
def test_an_id_is_read_and_written_back(text: str) -> None:
    assert str(parse(text)) == text


def test_parts() -> None:
    assert (parse("image/f1max").level, parse("image/f1max").id, parse("image/f1max").at) == (
        "image",
        "image/f1max",
        None,
    )
    found = parse("pixel/aupro@0.3:grid200")
    assert (found.level, found.id, found.at) == ("pixel", "pixel/aupro:grid200", 0.3)
    assert parse("image/fpr@recall0.95").at == 0.95 and parse("mad").level == ""


@given(st.floats(0, 1, exclude_min=True))
def test_every_limit_has_an_id(limit: float) -> None:
    text = str(METRICS.load("pixel/aupro")(limit))
    assert parse(text).at == limit


@pytest.mark.parametrize(
    ("text", "heading", "group", "better"),
    [
        ("pixel/aupro@0.3", "AUPRO", "Pixel level", True),
        ("pixel/aupro@0.05", "AUPRO@0.05", "Pixel level", True),
        ("pixel/aupro@0.3:grid200", "AUPRO:grid200", "Pixel level", True),
        ("image/fpr@recall0.95", "I-FPR@recall0.95", "Image level", False),
        ("image/auroc:logical", "I-AUROC logical", "Image level", True),
        ("image/auroc:mean", "I-AUROC mean of families", "Image level", True),
        ("sample/ap", "S-AP", "Object level", True),
        ("mad", "mAD", "", True),
        ("pixel/of-a-plug-in", "pixel/of-a-plug-in", "Pixel level", None),
        ("anything", "anything", "", None),
    ],
)
def test_what_a_record_holds_has_a_column(text: str, heading: str, group: str, better: bool | None) -> None:
    found = column(text)
    assert (found.heading, found.group, found.higher_is_better, found.unit) == (heading, group, better, "")
    assert column("pixel/of-a-plug-in", "px").unit == "px"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pixel/aurocc", "Did you mean 'pixel/auroc'"),
        ("pixel/auprc", "Did you mean 'pixel/au"),
        ("Image/AUROC", "Did you mean 'image/auroc'"),
        ("image/f1", "Did you mean 'image/f1max'"),
        ("pixel/aupro", "needs its false-positive limit. Did you mean 'pixel/aupro@0.3'"),
        ("pixel/aupro@", "not a number"),
        ("pixel/aupro@x", "'x' is not a number"),
        ("pixel/aupro@0", r"outside \(0, 1\]"),
        ("pixel/aupro@30", r"outside \(0, 1\]"),
        ("pixel/aupro@-0.3", r"outside \(0, 1\]"),
        ("pixel/aupro@nan", r"outside \(0, 1\]"),
        ("pixel/aupro@0.30", "Did you mean 'pixel/aupro@0.3'"),
        ("pixel/aupro@1.0", "Did you mean 'pixel/aupro@1'"),
        ("pixel/aupro@ 0.3", "Did you mean 'pixel/aupro@0.3'"),
        ("pixel/aupro@0.3:", "Did you mean 'pixel/aupro@0.3'"),
        ("pixel/aupro@0.3:grid20", "has no variant 'grid20'. Did you mean 'pixel/aupro@0.3:grid200'"),
        ("pixel/f1max:grid", "Did you mean 'pixel/f1max:grid21'"),
        ("pixel/auroc:ADEval", "Did you mean 'pixel/auroc:adeval'"),
        ("pixel/aupro@0.3:exact", "'pixel/aupro' has no variant 'exact'. Known: grid200, grid100"),
        ("pixel/aupro:grid200", "needs its false-positive limit"),
        ("pixel/auroc:grid200", r"Did you mean 'pixel/auroc:adeval200'\? Known: adeval, adeval200, adeval50"),
        ("image/auroc:adeval", "has no variant 'adeval', nor any other. Did you mean 'image/auroc'"),
        ("pixel/auroc:", "Did you mean 'pixel/auroc'"),
        ("pixel/auroc@0.3", "takes no limit. Did you mean 'pixel/auroc'"),
        ("image/aupro@0.3", "no such metric"),
        ("image/fpr", "needs its recall. Did you mean 'image/fpr@recall0.95'"),
        ("image/fpr@0.95", "does not begin with 'recall'. Did you mean 'image/fpr@recall0.95'"),
        ("image/fpr@recall2", r"outside \(0, 1\]"),
        ("pixel/iou", "Did you mean 'pixel/iou"),
        ("pixel/f1:grid8", "Did you mean 'pixel/f1:grid7'"),
        ("region/ap", "no such metric"),
        ("", "no such metric"),
    ],
)
def test_what_is_no_id_is_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


@given(st.text(max_size=24))
def test_any_text_is_an_id_or_a_usage_error(text: str) -> None:
    try:
        assert str(parse(text)) == text
    except UsageError as error:
        assert repr(text)[1:-1] in str(error) or text in str(error)


def test_a_number_is_no_id() -> None:
    with pytest.raises(UsageError, match="expected text"):
        parse_all([3])  # type: ignore[list-item]


def test_none_stands_for_the_seven_and_repeats_are_dropped() -> None:
    assert [str(metric) for metric in parse_all(None)] == list(SEVEN)
    assert [str(metric) for metric in parse_all(["image/ap", "image/ap"])] == ["image/ap"]


def test_the_version_is_recorded_as_a_number() -> None:
    assert METRIC_VERSION == 1
