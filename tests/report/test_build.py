from __future__ import annotations

from dataclasses import replace

import pytest
from made_records import PAPER, made, scores

from bench.protocol import SEVEN
from bench.report.tables import build, ours
from bench.report.tables.table import Table, TableCell, TableRow
from bench.store.facts import ClassScores, ExternalFacts, Latency
from bench.store.record import Record

CLASSES = {"bottle": 0.9, "metal_nut": 0.8}
MVTEC = {f"class{number}": 0.9 for number in range(15)}


def tables(*records: Record, published: bool = False, **options: object) -> dict[str, Table]:
    found = build.tables(records, published=published, **options)  # type: ignore[arg-type]
    assert len({table.name for table in found}) == len(found)
    return {table.name: table for table in found}


def overview(*records: Record, published: bool = False) -> list[TableRow]:
    return list(tables(*records, published=published)["overview-multi"].rows)


def cell(row: TableRow, table: Table, metric: str) -> TableCell:
    return next(cell for cell, column in zip(row.cells, table.columns, strict=True) if column.metric == metric)


# ---------------------------------------------------------------------------------------------------- numbers
def test_means_are_over_classes_and_mad_over_the_seven() -> None:
    table = tables(made(levels=CLASSES))["overview-multi"]
    (row,) = table.rows
    assert [column.metric for column in table.columns] == [*SEVEN, "mad"]
    want = [0.85 - place / 100 for place in range(7)]
    assert [one.value for one in row.cells] == pytest.approx([*want, sum(want) / 7])
    assert all(one.records == ("dinomaly-mvtec-multi-0-common",) for one in row.cells)


def test_seeds_are_one_row_with_their_spread_and_a_table_of_their_own() -> None:
    found = tables(*(made(levels={"a": level}, seed=seed) for seed, level in ((2, 0.95), (0, 0.85), (1, 0.9))))
    (row,) = found["overview-multi"].rows
    assert row.cells[0].value == pytest.approx(0.9) and row.cells[0].std == pytest.approx(0.05)
    assert row.notes == ("mean ± standard deviation over 3 seeds (0, 1, 2)",)
    titles = [one.title for one in found["seeds-multi"].rows]
    assert titles == ["seed 0", "seed 1", "seed 2", "mean ± std"]
    assert [one.cells[0].value for one in found["seeds-multi"].rows] == pytest.approx([0.85, 0.9, 0.95, 0.9])
    assert "seeds-multi" not in tables(made())


def test_a_missing_class_takes_the_mean_away_and_the_rank_too() -> None:
    some = made("vitad", levels={"a": 0.99}, known=2)
    level = {"bottle": 0.7, "metal_nut": 0.7}
    whole = [made("rd4ad", levels=CLASSES), made("knn", levels=level), made("patchcore", levels=level)]
    first, second, *rest = overview(*whole, some)
    assert [one.method for one in (first, second, *rest)] == ["vitad", "rd4ad", "knn", "patchcore"]
    assert {(one.value, one.text, one.rank) for one in first.cells} == {(None, "1/2", 0)}
    assert first.notes == ("1/2 classes; no mean over fewer is given",)
    assert [one.cells[0].rank for one in (second, *rest)] == [1, 2, 2]


def test_undefined_in_some_classes_is_counted_and_in_all_is_a_dash_with_its_reason() -> None:
    table = tables(
        made(
            values={
                "a": ClassScores(values=scores(0.9)),
                "b": ClassScores(
                    values={**scores(0.8), "pixel/ap": None, "image/ap": None},
                    undefined={"pixel/ap": "no masks", "image/ap": "no score"},
                ),
                "c": ClassScores(values={**scores(0.8), "image/ap": None}, undefined={"image/ap": "one label"}),
            }
        ),
    )["overview-multi"]
    (row,) = table.rows
    assert cell(row, table, "pixel/ap") == TableCell(text="2/3", notes=("no masks (b)",))
    assert cell(row, table, "image/ap") == TableCell(text="1/3", notes=("no score; one label (b, c)",))
    assert "mad" not in [column.metric for column in table.columns]


def test_image_level_datasets_have_no_pixel_columns_and_a_dash_beside_others() -> None:
    labels = made(dataset="own", metrics=SEVEN[:3])
    (table,) = [one for name, one in tables(labels).items() if name.startswith("overview")]
    assert [column.metric for column in table.columns] == list(SEVEN[:3])
    beside = tables(labels, made())["overview-multi"]
    row = next(one for one in beside.rows if one.dataset == "own")
    assert beside.shown(cell(row, beside, "pixel/ap"), beside.columns[4]) == "–"
    assert cell(row, beside, "pixel/ap").notes == ("no masks",)


# --------------------------------------------------------------------------------------------- what compares
def test_protocols_are_rows_of_their_own_and_marked() -> None:
    common, other, paper = overview(made(), made(protocol=PAPER), made("rd4ad"))
    assert common.notes == () and other.notes == ()
    assert [one.group for one in (common, other, paper)] == [
        *(["Ours, protocol common"] * 2),
        "Ours, protocol paper:dinomaly",
    ]
    assert paper.notes[0].startswith("protocol paper:dinomaly v1 (")
    assert paper.notes[1].startswith("AUPRO by the rule grid200: ")
    assert [one.rank for one in paper.cells] == [0] * 8


def test_a_variant_of_a_metric_stands_in_the_metrics_column() -> None:
    table = tables(made(protocol=PAPER))["overview-multi"]
    assert [column.metric for column in table.columns] == [*SEVEN, "mad"]
    assert any(note.startswith("Ours, unless marked: protocol paper:dinomaly v1") for note in table.notes)
    assert any(note.startswith("AUPRO by the rule grid200") for note in table.notes)


def test_changed_settings_are_a_row_of_their_own_and_marked_encoder_first() -> None:
    plain, changed = overview(made(), made(config={"dropout": 0.0, "encoder": "tiny"}))
    assert plain.notes == () and changed.notes == ("not the paper's settings: encoder = tiny, dropout = 0.0",)


def test_titles_tell_configurations_of_one_method_apart_by_what_differs() -> None:
    first, second, other, paper = overview(
        made(config={"dropout": 0.1}),
        made(config={"dropout": 0.4}),
        made(protocol=PAPER, config={"dropout": 0.4}),
        made("vitad", config={"dropout": 0.4}),
    )
    assert first.title == "Dinomaly (common, dropout 0.1)" and second.title == "Dinomaly (common, dropout 0.4)"
    assert paper.title == "Dinomaly (paper:dinomaly, dropout 0.4)" and other.title == "ViTAD"


def test_titles_differ_even_where_only_weights_do() -> None:
    one = made()
    encoder = one.encoder.model_copy(update={"weights_sha256": "1" * 64})
    rows = overview(one, one.model_copy(update={"encoder": encoder}))
    assert [row.title for row in rows] == ["Dinomaly (vit_small 00000000)", "Dinomaly (vit_small 11111111)"]


def test_what_another_program_made_is_marked() -> None:
    facts = ExternalFacts(files_sha256="0" * 64, maps="npz", resized="bilinear", image_score="max")
    (row,) = overview(made("mine").model_copy(update={"external": facts}))
    assert row.notes == ("another program's output, scored here; image scores: max of the map, bilinear",)


def test_images_scored_by_another_label_are_marked() -> None:
    plain = made("dinomaly")
    assert not any("scored as normal" in note for note in overview(plain)[0].notes)
    facts = plain.dataset.model_copy(update={"relabelled": {"bottle": 2}})
    (row,) = overview(plain.model_copy(update={"dataset": facts}))
    assert "anomalous images scored as normal, their masks being empty once resized: bottle 2" in row.notes


def test_a_training_cut_to_a_smaller_batch_is_marked() -> None:
    (row,) = overview(made("dinomaly").model_copy(update={"reduced": {"train": 4}}))
    assert any("trained with 4 images a step" in note for note in row.notes)
    (row,) = overview(made("dinomaly").model_copy(update={"reduced": {"inference": 4}}))
    assert not any("images a step" in note for note in row.notes), "a smaller batch there changes no score"


@pytest.mark.parametrize("change", [{"data": "other"}, {"protocol": PAPER}])
def test_other_images_or_rules_are_not_ranked_together(change: dict[str, object]) -> None:
    best = made("rd4ad", levels={"bottle": 0.99, "metal_nut": 0.99}, **change)  # type: ignore[arg-type]
    assert [row.cells[0].rank for row in overview(made(), best)] == [0, 0]


def test_other_images_and_older_metric_code_are_marked() -> None:
    old = made("vitad").model_copy(update={"metric_version": 0})
    rows = overview(made(), made("knn"), made("rd4ad", data="other"), old)
    assert {row.method: row.notes for row in rows} == {
        "dinomaly": (),
        "knn": (),
        "rd4ad": ("other images than the rows without this mark (data other)",),
        "vitad": ("version 0 of the metric code",),
    }
    assert [row.cells[0].rank for row in rows] == [0] * 4  # the two that compare are equal


def test_of_two_entries_of_a_line_the_whole_one_counts_then_the_newest() -> None:
    said: list[str] = []
    old = made(levels={"a": 0.1, "b": 0.1}, data="before", created="2026-01-01T00:00:00+00:00")
    new = made(levels={"a": 0.9, "b": 0.9}, data="after", created="2026-02-01T00:00:00+00:00")
    part = made(levels={"a": 0.5}, known=2, created="2026-03-01T00:00:00+00:00")
    for order in ([old, new, part], [part, new, old]):
        said.clear()
        (line,) = ours.lines(ours.group(order), said.append)
        assert line.cell("mvtec", "", "image/auroc").value == pytest.approx(0.9)
        assert len(said) == 2 and all(text.startswith("left out: dinomaly on mvtec, multi") for text in said)


# ------------------------------------------------------------------------------------------------ the tables
def test_published_rows_stand_before_ours_with_the_difference() -> None:
    rows = overview(made("vitad", levels=MVTEC), published=True)
    vitad = [row for row in rows if row.method == "vitad"]
    assert [row.source for row in vitad] == ["published", "ours"]
    printed, mine = vitad[0].cells[0], vitad[1].cells[0]
    assert (printed.printed, printed.difference) == ("98.3", None) and printed.where.startswith("vitad table ")
    assert mine.difference == pytest.approx(0.9 - 0.983)
    assert vitad[0].notes and "256x256 whole image" in vitad[0].notes[0]
    assert {row.method for row in rows} >= {"dinomaly", "rd4ad", "vitad"}
    assert {row.source for row in overview(made(levels=MVTEC))} == {"ours"}


def test_published_rows_only_of_the_methods_asked_for() -> None:
    rows = list(tables(made("vitad"), published=True, methods=("vitad",))["overview-multi"].rows)
    assert {row.method for row in rows} == {"vitad"}


def test_few_shot_has_published_rows_of_as_many_shots_alone_and_its_shots_in_the_name() -> None:
    found = tables(made(setting="few-shot", shots=4), made(setting="few-shot", shots=1), published=True)
    assert {"overview-few-shot-4", "overview-few-shot-1"} <= set(found)
    assert {row.source for row in found["overview-few-shot-4"].rows} == {"ours"}, "no paper at hand prints four"
    assert {row.method for row in found["overview-few-shot-1"].rows if row.source == "published"} == {"rad"}


def test_few_shots_of_a_model_a_class_say_so() -> None:
    few = {"setting": "few-shot-single", "shots": 4, "parts": 2}
    found = tables(*(made(levels={part: 0.9}, part=part, **few) for part in ("bottle", "cable")))  # type: ignore[arg-type]
    assert found["overview-few-shot-single-4"].title == "Overview, one model a class, 4 training images each"
    assert [row.title for row in found["classes-mvtec-few-shot-single-4"].rows] == ["bottle", "cable", "mean of 2"]


def test_one_row_holds_a_method_whose_papers_recipe_is_another_on_semantic_sets() -> None:
    semantic = replace(PAPER, crop=PAPER.crop / 2)
    industrial = made(levels={"bottle": 0.9}, protocol=PAPER)
    classes = made(dataset="fmnist", levels={"A": 0.8}, part="A", kind="semantic", protocol=semantic)
    (line,) = ours.lines(ours.group([industrial, classes]))
    assert line.datasets == ("mvtec", "fmnist") and line.title == "Dinomaly"
    # of one kind of dataset, two recipes are two rows
    assert len(ours.lines(ours.group([industrial, made(levels={"bottle": 0.9}, protocol=semantic)]))) == 2


def halves(method: str, level: float, splits: str = "ABCD") -> list[Record]:
    return [
        made(method, "cifar10", {part: level}, part=part, parts=4, kind="semantic", metrics=SEVEN[:3])
        for part in splits
    ]


def test_half_splits() -> None:
    found = tables(*halves("dinomaly", 0.9, "DCBA"), *halves("knn", 0.8, "AB"))
    table = found["splits-multi"]
    assert [column.title for column in table.columns] == ["A", "B", "C", "D", "mean"]
    dinomaly, knn = table.rows
    assert [one.value for one in dinomaly.cells] == pytest.approx([0.9] * 5)
    assert [one.rank for one in dinomaly.cells] == [0] * 5  # nothing compares with an incomplete row
    assert [one.text for one in knn.cells] == ["", "", "", "", "2/4"] and knn.cells[2].value is None
    assert "overview-multi" not in found
    assert [column.metric for column in found["semantic-multi"].columns] == list(SEVEN[:3])
    cost = found["efficiency-multi"]
    whole, part = (row for row in cost.rows)
    assert cell(whole, cost, "cost/train_hours").value == pytest.approx(4.0)
    assert cell(part, cost, "cost/train_hours") == TableCell(text="2/4")


def test_classes_compare_methods_along_the_row() -> None:
    levels = {"bottle": 0.95, "metal_nut": 0.7}
    other = made("vitad", levels={"bottle": 0.6, "metal_nut": 0.6})
    table = tables(made("rd4ad"), made("dinomaly", levels=levels), other)["classes-mvtec-multi"]
    assert [(column.group, column.title) for column in table.columns[:4]] == [
        *(("I-AUROC", "Dinomaly"), ("I-AUROC", "ViTAD"), ("I-AUROC", "RD4AD"), ("I-AP", "Dinomaly"))
    ]
    bottle, nut, mean = table.rows
    assert (mean.title, mean.summary) == ("mean of 2", True)
    assert [one.rank for one in bottle.cells[:3]] == [1, 0, 2] and [one.rank for one in nut.cells[:3]] == [2, 0, 1]
    assert mean.cells[0].value == pytest.approx(0.825)


def test_classes_of_one_method_have_metrics_as_columns() -> None:
    table = tables(made())["classes-mvtec-multi"]
    assert [column.title for column in table.columns[:3]] == ["I-AUROC", "I-AP", "I-F1max"]
    assert table.title.endswith("Dinomaly")


def test_extra_metrics_stand_in_the_table_by_class() -> None:
    values = {"box": ClassScores(values=scores(0.9), extra={"image/auroc:logical": 0.7, "image/auroc:mean": 0.8})}
    table = tables(made(dataset="mvtec_loco", values=values))["classes-mvtec_loco-multi"]
    assert [column.title for column in table.columns[-2:]] == ["I-AUROC logical", "I-AUROC mean of families"]
    assert [row.cells[-1].value for row in table.rows] == [0.8, 0.8]
    assert any(note.startswith("I-AUROC of a family:") for note in table.notes)


def test_classes_ranked_together_stand_below_the_mean() -> None:
    pooled = ClassScores(values=scores(0.6, SEVEN[:3]), undefined={"pixel/auroc": "no masks"})
    one = made(levels=CLASSES).model_copy(update={"pooled": pooled})
    table = tables(one, made("rd4ad", levels=CLASSES))["classes-mvtec-multi"]
    last = list(table.rows)[-1]
    assert (last.title, last.summary) == ("pooled", True)
    found = {column.metric: one for one, column in zip(last.cells, table.columns, strict=True) if one.records}
    assert [cell.value for cell in found.values()] == [0.6, 0.59, 0.58]
    assert cell(last, table, "pixel/auroc").notes == ("no masks",)
    assert any(note.startswith("Pooled: ") for note in table.notes)
    assert [row.title for row in tables(made())["classes-mvtec-multi"].rows][-1] == "mean of 2"


def test_a_table_of_classes_has_the_best_of_very_many_configurations() -> None:
    many = [made(levels={"a": 0.5 + place / 100}, config={"steps": place}) for place in range(1, 21)]
    table = tables(*many, published=True, methods=["dinomaly"])["classes-mvtec-multi"]
    shown = [column for column in table.columns if column.metric == "image/auroc" and column.source == "ours"]
    assert [column.title for column in shown] == [f"Dinomaly (steps {place})" for place in range(5, 21)]
    assert "Of ours 16 of 20 configurations, the best by I-AUROC; --methods chooses others." in table.notes
    assert any(column.source == "published" for column in table.columns)


def test_costs_compare_on_one_machine_only() -> None:
    fast = made("rd4ad", device="gpu")
    table = tables(made(), fast)["efficiency-multi"]
    assert [cell(row, table, "cost/train_hours").value for row in table.rows] == [1.0, 1.0]
    assert [cell(row, table, "cost/params_m").value for row in table.rows] == [30.0, 30.0]
    assert [row.notes for row in table.rows] == [
        *(("on cpu, a cpu, 1 thread, fp32",), ("on gpu, a cpu, 1 thread, fp32",))
    ]
    line = ours.lines(ours.group([fast]))[0]
    other = ours.lines(ours.group([made()]))[0]
    assert line.comparable("mvtec", "cost/macs_g") == other.comparable("mvtec", "cost/macs_g")
    assert line.comparable("mvtec", "cost/train_hours") != other.comparable("mvtec", "cost/train_hours")


def test_latency_and_energy_are_shown_where_somebody_measured_them() -> None:
    def measured(one: Record, **changes: object) -> Record:
        assert one.efficiency is not None
        return one.model_copy(update={"efficiency": one.efficiency.model_copy(update=changes)})

    silent = tables(made())["efficiency-multi"]
    own = {"cost/latency_ms", "cost/latency_p95_ms", "cost/train_wh", "cost/joules_per_image"}
    assert not own & {column.metric for column in silent.columns}
    joules = {"decode": 9.0, "features": 3600.0, "train": 7200.0, "inference": 50.0}
    full = measured(made(), latency=Latency(images=30, p50=0.008, p95=0.011, p99=None), joules=joules)
    # 100 images, and a training that was taken up again
    other = measured(made("rd4ad"), latency=None, joules={"features": 3600.0, "inference": 50.0})
    table = tables(full, other)["efficiency-multi"]
    assert own <= {column.metric for column in table.columns}
    found = {row.method: {metric: cell(row, table, metric).value for metric in own} for row in table.rows}
    expected = {"cost/latency_ms": 8.0, "cost/latency_p95_ms": 11.0, "cost/train_wh": 3.0, "cost/joules_per_image": 0.5}
    assert found["dinomaly"] == pytest.approx(expected)
    assert found["rd4ad"] == {**dict.fromkeys(own), "cost/joules_per_image": 0.5}


def test_published_costs_stand_beside_and_only_counts_have_a_difference() -> None:
    table = tables(made(), published=True)["efficiency-multi"]
    printed, mine = (row for row in table.rows if row.method == "dinomaly")
    assert (cell(printed, table, "cost/params_m").value, printed.source) == (148.0, "published")
    assert cell(mine, table, "cost/params_m").difference == pytest.approx(30.0 - 148.0)
    rate = "cost/images_per_second"
    assert "RTX 3090, batch 16" in cell(printed, table, rate).notes
    assert cell(mine, table, rate).value == 20.0 and cell(mine, table, rate).difference is None
    # methods of which no paper prints a cost have no row
    assert "knn" not in {row.method for row in table.rows}


def test_no_records_no_tables() -> None:
    assert tables() == {}


def test_a_table_of_seeds_ends_after_very_many_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.tables.layouts.MAX_SEED_BLOCKS", 1)
    found = [made(method, seed=seed) for method in ("vitad", "rd4ad") for seed in (0, 1)]
    table = tables(*found)["seeds-multi"]
    assert len(table.blocks) == 1 and table.notes[0].startswith("The first 1 of 2; ")
