"""Figures: that what is drawn is what was scored, that names are text, and why some are absent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_records import PAPER, made

from bench.report.figures import gallery as galleries
from bench.report.figures import panels
from bench.report.figures.critical import critical
from bench.report.figures.curves import overlap, precision_recall, roc
from bench.report.figures.drawing import Figure, line_style
from bench.report.figures.gallery import gallery, uncropped
from bench.report.figures.heat import heat
from bench.report.figures.histograms import histograms
from bench.report.figures.panels import Panel
from bench.report.figures.series import series
from bench.report.figures.tradeoffs import scaling, throughput
from bench.report.figures.training import training
from bench.report.tables import ours
from bench.stats import Ranking
from bench.store import evidence as evidence_module
from bench.store import record as records
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.facts import EncoderFacts, TrainingFacts
from bench.store.record import Record


def lines(*found: Record) -> list[ours.OurLine]:
    return ours.lines(ours.group(found))


def texts(figure: Figure) -> list[str]:
    root = ElementTree.fromstring(figure.svg())
    return [found.text or "" for found in root.iter() if found.tag.endswith("text")]


def at(record: Record, size: int, encoder: str = "vit_small") -> Record:
    assert record.encoder is not None
    facts = EncoderFacts(**{**record.encoder.model_dump(), "name": encoder})
    return record.model_copy(update={"encoder": facts, "input_size": size})


# ------------------------------------------------------------------------------------------------- a real run
@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory, write_tree: Callable[..., Path], small: Callable[..., list[str]]
) -> Any:
    """Record, results folder and data of a small run that kept its maps."""
    from bench.cli.main import run

    folder = tmp_path_factory.mktemp("ran")
    tree = write_tree(folder / "tree")
    done = run([*small(), "--data-root", str(tree), "--results", str(folder / "out"), "--keep-maps"])
    assert done == 0
    (path,) = (folder / "out").rglob("s*.json")
    return records.read(path), folder / "out", tree


def evidence_of(ran: Any) -> EvidenceFiles:
    return EvidenceFiles([ran[1]], [f"folder={ran[2]}"])


def test_the_evidence_is_that_of_the_record(ran: Any) -> None:
    record, evidence = ran[0], evidence_of(ran)
    images = evidence.images(record)
    assert set(images) == {"dots", "lines"}
    from bench.metrics import evaluate_class

    for cls, found in images.items():
        maps, masks = evidence.maps(record, cls), evidence.masks(record, cls)
        scores = evaluate_class(maps, masks, found.scores, found.labels)
        assert dict(scores) == pytest.approx(dict(record.scores[cls].values))


def test_scores_of_another_run_are_not_taken_for_the_records(ran: Any) -> None:
    record = ran[0]
    other = {
        cls: scores.model_copy(update={"values": {**scores.values, "image/auroc": 0.123}})
        for cls, scores in record.scores.items()
    }
    with pytest.raises(Lacking, match="holds other scores"):
        evidence_of(ran).images(record.model_copy(update={"scores": other}))


@pytest.mark.parametrize("named", ["", "washers="])
def test_images_of_a_folder_of_ones_own_are_found_under_the_name_it_had(
    ran: Any, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.registry import DATASETS

    monkeypatch.setattr(DATASETS, "targets", dict(DATASETS.targets))
    # it lay elsewhere when it was run
    moved = ran[0].model_copy(update={"dataset": ran[0].dataset.model_copy(update={"root": "no such folder"})})
    record = moved.model_copy(update={"cell": ran[0].cell.model_copy(update={"dataset": "washers"})})
    ids = EvidenceFiles([ran[1]]).images(record)["dots"].ids
    with pytest.raises(Lacking, match=r"^the images are not at hand; name their folder with --data-root folder=DIR$"):
        EvidenceFiles([ran[1]]).samples(moved, ids)
    with pytest.raises(Lacking, match="the images are not at hand; name their folder with --data-root washers=DIR"):
        EvidenceFiles([ran[1]]).samples(record, ids)
    _, samples = EvidenceFiles([ran[1]], [f"{named}{ran[2]}"]).samples(record, ids)
    assert [sample.id for sample in samples] == list(ids)


def test_what_is_missing_is_said(ran: Any) -> None:
    record = ran[0]
    with pytest.raises(Lacking, match=r"\.parquet"):
        EvidenceFiles([]).images(record)
    with pytest.raises(Lacking, match="not beside the record"):
        EvidenceFiles([]).maps(record, "dots")
    with pytest.raises(Lacking, match="--keep-maps"):
        evidence_of(ran).maps(record.model_copy(update={"maps": None}), "dots")
    with pytest.raises(Lacking, match="may score images alone"):
        evidence_of(ran).maps(record, "no such class")
    with pytest.raises(Lacking, match="--data-root"):
        EvidenceFiles([ran[1]], ["folder=/nowhere"]).masks(record, "dots")


def test_masks_are_read_once_and_never_of_very_many_images(ran: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = evidence_of(ran)
    first = evidence.masks(ran[0], "dots")
    assert first.any() and np.array_equal(evidence.masks(ran[0], "dots"), first)
    with monkeypatch.context() as patch:
        patch.setattr(EvidenceFiles, "_read_masks", None)
        assert np.array_equal(evidence.masks(ran[0], "dots"), first)
    monkeypatch.setattr(evidence_module, "MOST_MASKS", 3)
    with pytest.raises(Lacking, match="more than 3 test images"):
        evidence.masks(ran[0], "lines")
    (one,) = series(lines(ran[0]))
    assert "more than 3" in overlap([one], "folder", evidence).absent
    assert not gallery(one, "folder", evidence).absent, "the scores alone say what is missed"


def test_every_figure_of_a_real_run_is_drawn(ran: Any) -> None:
    (one,) = series(lines(ran[0]))
    evidence = evidence_of(ran)
    for figure in (
        *(draw([one], "folder", evidence) for draw in (roc, precision_recall, overlap)),
        *(histograms(one, "folder", evidence), training([one], "folder"), throughput([one], "folder")),
    ):
        if figure.name.startswith("training"):
            # six steps make too few points of a curve, or a curve
            assert figure.absent or figure.svg()
            continue
        assert not figure.absent, figure.absent
        shown = texts(figure)
        if figure.name.split("-")[0] in ("roc", "pr", "pro", "scores"):
            assert {"dots", "lines"} <= set(shown)


def test_the_overlap_curve_holds_the_recorded_aupro(ran: Any) -> None:
    from bench.report.figures import curves

    (one,) = series(lines(ran[0]))
    for cls in ("dots", "lines"):
        curve = curves._pro(one, "folder", cls, evidence_of(ran))
        assert curve is not None
        assert curve.area / 0.3 == pytest.approx(ran[0].scores[cls].values["pixel/aupro@0.3"], abs=1e-9)


def test_the_gallery_shows_the_worst_first_on_the_scale_of_normal_images(ran: Any) -> None:
    (one,) = series(lines(ran[0]))
    evidence = evidence_of(ran)
    found = gallery(one, "folder", evidence)
    assert not found.absent, found.absent
    images = evidence.images(ran[0])
    shares = []
    for shot in found.shots[: galleries.MISSES]:
        cls = shot.title.split(",")[0]
        place = images[cls].ids.index(shot.id)
        assert images[cls].labels[place], "misses come first"
        normal = images[cls].scores[~images[cls].labels]
        shares.append(float(np.mean(normal >= images[cls].scores[place])))
    assert shares == sorted(shares, reverse=True)
    pixels = np.concatenate([evidence.maps(ran[0], cls)[~images[cls].labels].ravel() for cls in images])
    low, high = heat(one, "folder", dict(images), evidence).scale
    assert low == pytest.approx(np.median(pixels), rel=0.02)
    assert (low + high) / 2 == pytest.approx(np.quantile(pixels, 0.999), rel=0.02)
    for shot in found.shots:
        assert all(tile.shape == shot.tiles[0].shape and tile.dtype == np.uint8 for tile in shot.tiles)
        assert shot.panels == galleries.PANELS
    assert found.figure().svg().startswith("<svg")


def test_a_gallery_of_a_method_that_misses_nothing_says_so(ran: Any) -> None:
    (one,) = series(lines(ran[0]))
    evidence = evidence_of(ran)
    images = {cls: replace(of, scores=of.labels.astype(float)) for cls, of in evidence.images(ran[0]).items()}
    evidence.images = lambda record: images  # type: ignore[method-assign]
    found = gallery(one, "folder", evidence)
    assert not found.absent and all("detected" in shot.why for shot in found.shots)
    assert "misses" not in found.title and found.caption.startswith("Nothing is missed")


def test_a_panel_of_an_anomalous_image_without_a_mask_is_not_called_its_truth(ran: Any) -> None:
    (one,) = series(lines(ran[0]))
    evidence = evidence_of(ran)
    known = evidence.samples

    def unmasked(record: Any, ids: Any) -> Any:
        dataset, samples = known(record, ids)
        return dataset, [replace(sample, masks=()) for sample in samples]

    evidence.samples = unmasked  # type: ignore[method-assign]
    evidence.masks = lambda record, cls: (_ for _ in ()).throw(Lacking("none"))  # type: ignore[method-assign]
    shots = gallery(one, "folder", evidence).shots
    assert shots[0].panels == ("input", "no mask", "map", "overlay")


def test_without_maps_or_data_the_gallery_says_why(ran: Any) -> None:
    (one,) = series(lines(ran[0].model_copy(update={"maps": None})))
    assert "--keep-maps" in gallery(one, "folder", evidence_of(ran)).absent
    (one,) = series(lines(ran[0]))
    assert "--data-root" in gallery(one, "folder", EvidenceFiles([ran[1]], ["folder=/nowhere"])).absent


def test_a_crop_is_undone() -> None:
    record = at(made(protocol=PAPER), 392)
    # of 448 pixels the crop keeps 28 to 420: an eighth of the side is cut away, half of it at each end
    whole = uncropped(np.full((256, 256), 3.0, np.float32), (160, 80), record)
    assert whole.shape == (80, 160)
    seen = ~np.isnan(whole)
    assert seen[5:75, 10:150].all() and seen.sum() == 70 * 140
    assert np.unique(whole[seen]).tolist() == [3.0]
    assert not np.isnan(uncropped(np.zeros((256, 256), np.float32), (160, 80), made())).any()


# ------------------------------------------------------------------------------------------- made-up records
def test_throughput_has_the_machine_of_most_records_and_says_what_is_left_out() -> None:
    chosen = series(lines(made("dinomaly"), made("vitad"), made("rd4ad", device="cuda")))
    figure = throughput(chosen, "mvtec")
    assert "here cpu, a cpu, 1 thread" in figure.caption and "other machines: 1" in figure.caption
    assert {"Dinomaly", "ViTAD"} <= set(texts(figure)) and "RD4AD" not in texts(figure)


def test_scaling_needs_two_sizes_or_encoders() -> None:
    alone = series(lines(made("dinomaly"), made("vitad")))
    assert scaling(alone, "mvtec").absent
    several = series(lines(at(made("dinomaly"), 128), at(made("dinomaly", config={"steps": 5}), 256), made("vitad")))
    figure = scaling(several, "mvtec")
    assert {"128", "256", "Dinomaly, vit_small"} <= set(texts(figure)) and "ViTAD, vit_small" not in texts(figure)


def test_training_draws_what_trained() -> None:
    curve = tuple((step, 1 / step) for step in range(1, 50))
    trained = made("dinomaly").model_copy(
        update={"training": TrainingFacts(steps=50, batch_size=2, store="memory", loss_curve=curve)}
    )
    shown = texts(training(series(lines(trained, made("vitad"))), "mvtec"))
    assert "iteration" in shown and not any("$" in text for text in shown)
    assert training(series(lines(made("vitad"))), "mvtec").absent


def test_names_are_text_and_no_markup_nor_formula() -> None:
    names = ("<script>alert(1)</script>", "a$x^2$b", "_hidden", "a&b")
    ranking = Ranking(names, (1.0, 2.0, 3.0, 4.0), 9, (), 9.0, 0.01, 1.2, 0.05)
    figure = critical(ranking, "cd", "t", "c")
    shown = " ".join(texts(figure))
    assert all(name in shown for name in names)
    chosen = [
        replace(one, label=name)
        for one, name in zip(series(lines(made("vitad"), made("rd4ad"))), names[1:3], strict=True)
    ]
    shown = " ".join(texts(throughput(chosen, "mvtec")))
    assert "a$x^2$b" in shown and "_hidden" in shown


def overhang(figure: Figure) -> float:
    """By how many pixels a legend sticks out of its canvas, or lies over another text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    whole = figure._drawn
    renderer = FigureCanvasAgg(whole).get_renderer()
    box, (width, height) = whole.legends[0].get_window_extent(renderer), whole.get_size_inches() * whole.dpi
    return max(0 - box.x0, 0 - box.y0, box.x1 - width, box.y1 - height)


SHORT, LONG = "PatchCore", "PatchCore (input 224, encoder tf_efficientnet_lite0.in1k, coreset 0.1)"


@pytest.mark.parametrize("labels", [(SHORT, LONG), (LONG, LONG + "!"), ("x" * 200, SHORT), (LONG,) * 1])
@pytest.mark.parametrize("classes", [1, 3, 8])
def test_a_legend_is_whole_however_narrow_its_figure(labels: tuple[str, ...], classes: int) -> None:
    def draw() -> Any:
        line = {label: ([0.0, 1.0], [0.0, 1.0]) for label in labels}
        pictures = [Panel(f"class {n}", (0, 1), (0, 1), (0, 0.5, 1), (0, 1), lines=line) for n in range(classes)]
        return panels.draw(pictures, {label: line_style(n) for n, label in enumerate(labels)}, 1.3, "x", "y")

    figure = Figure("roc", "ROC", draw=draw)
    assert overhang(figure) <= 1
    shown = "".join(texts(figure)).replace(" ", "")
    assert all(label.replace(" ", "") in shown for label in labels)


def test_long_names_fit_below_axes_too() -> None:
    found = series(lines(made("vitad"), made("rd4ad")))
    long = [replace(one, label=f"{LONG} {one.label}") for one in found]
    assert overhang(throughput(long, "mvtec")) <= 1
    wrapped = [replace(one, label=f"{LONG} {LONG} {LONG} {one.label}") for one in found]
    assert overhang(throughput(wrapped, "mvtec")) <= 1


def test_axes_of_percentages_end_at_100_and_have_ticks_around_a_single_point() -> None:
    perfect = made("dinomaly", levels={"bottle": 1.0, "screw": 0.99})
    figure = throughput(series(lines(perfect)), "mvtec")
    (ax,) = figure._drawn.axes
    assert ax.get_ylim()[1] <= 100 and ax.get_ylim()[0] < 99.5
    (left, right), ((rate, _),) = ax.get_xlim(), ax.collections[0].get_offsets()
    assert left * 1.5 < rate < right / 1.5
    assert len([tick for tick in ax.get_xticks() if left <= tick <= right]) >= 2
    figure = scaling(series(lines(at(perfect, 128), at(made("dinomaly", config={"steps": 5}), 256))), "mvtec")
    assert figure._drawn.axes[0].get_ylim()[1] <= 100


def test_characters_that_the_font_of_a_pdf_lacks_are_returned_and_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (one,) = series(lines(made("vitad")))
    figure = throughput([replace(one, label="零件 \x1b[31m")], "mvtec")
    assert set(figure.write_pdf(tmp_path / "x.pdf")) == {"零", "件", "\x1b"}
    assert not recwarn.list
    (one,) = series(lines(made("m\x1b[31m")))
    figure = throughput([one], "mvtec")
    assert figure.write_pdf(tmp_path / "x.pdf") == "" and r"m\x1b[31m" in texts(figure)


def test_svg_has_no_ids_of_its_own_and_follows_the_page() -> None:
    chosen = series(lines(made("vitad"), made("rd4ad")))
    first = throughput(chosen, "mvtec").svg()
    second = replace(throughput(chosen, "mvtec"), name="other").svg()
    ids = [set(re.findall(r'\sid="([^"]+)"', text)) for text in (first, second)]
    assert not ids[0] & ids[1], "two figures on one page share no id"
    assert all(f"#{name}" in first for name in ids[0]), "an id that nothing refers to"
    assert "currentColor" in first and "#1b1d22" not in first
    assert "http" not in first.replace("http://www.w3.org/", "")
    assert throughput(chosen, "mvtec").svg() == first, "the same bytes each time"
