"""Published scores: they read, they prove themselves, a wrong digit is caught, and they stand in the papers."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace as replaced
from decimal import Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import pstdev

import pytest

from bench.claims import proofs
from bench.claims.check import ProofReport, check, known, lines
from bench.claims.proofs import Tables, addresses, means
from bench.errors import UsageError
from bench.metrics.ids import parse
from bench.protocol import SEVEN
from bench.published import MEAN, Score, lookup, method_names, papers, protocols, read, scores
from bench.published.corrections import corrections
from bench.published.read import FOLDER, HEADER, files
from bench.published.references import references
from bench.registry import DATASETS, METHODS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
READER = sys.modules["bench.published.read"]
"""The module, which the function of its name hides."""
TEXTS = {
    "dinomaly_cvpr2025": "dinomaly-cvpr2025.md",
    "dinomaly_preprint": "dinomaly-preprint-appendix.md",
    "vitad": "vitad.md",
    "dual_student": "dual-student-noisy-or.md",
}


NEWEST = {"anomalydino", "dinomaly2", "dual_student", "inp_former", "invad", "rad", "subspacead", "unimmad"}
"""Methods that no bibliography at hand has."""


@pytest.fixture(scope="module")
def report() -> ProofReport:
    return check()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All tables in a folder of their own, to be damaged."""
    return shutil.copytree(FOLDER, tmp_path / "published", ignore=shutil.ignore_patterns("*.py", "__pycache__"))


@cache
def table(paper: str, number: str) -> tuple[Score, ...]:
    return tuple(score for score in scores() if (score.paper, score.table) == (paper, number))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{text.count(old)} times '{old}'"
    path.write_text(text.replace(old, new), encoding="utf-8")


def failures(folder: Path) -> str:
    return "\n".join(check(sorted(folder.glob("*/*.csv"))).failures)


# ---------------------------------------------------------------------------------------------------- the proof
def test_the_transcription_proves_itself(report: ProofReport) -> None:
    assert report.failures == ()
    assert sum(report.numbers.values()) == len(scores()) == 8232
    assert report.held["rows"] == report.held["range"] == 8232
    # comparisons, not only rows that nothing was compared with
    assert report.held["means"] > 250 and report.held["mad"] == 91 and report.held["agreement"] > 900


def test_each_exception_has_a_reason_and_is_needed(report: ProofReport) -> None:
    assert len(report.known) == len(set(known())) == len(known())
    assert all(count == entry.count > 0 for entry, count in report.known.items())
    assert all(len(entry.reason) > 20 and entry.reason.endswith(".") for entry in known())


def test_a_number_that_its_table_contradicts_carries_a_note() -> None:
    by_table = {(path.parent.name, path.stem.removeprefix("table")): read(path) for path in files()}
    found = list(means(Tables(by_table)))
    assert len(found) > 10
    assert [str(finding) for finding in found if not any(score.remark for score in finding.about)] == []


def test_the_report_names_every_table_and_reason(report: ProofReport) -> None:
    text = "\n".join(lines(report))
    assert "vitad: 1718 numbers" in text and "A13: 868" in text and "no failure" in text
    assert all(entry.reason in text for entry in known())


def test_the_command_prints_the_report_and_passes() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.claims.check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("8232 numbers")


# ----------------------------------------------------------------------------------------------- planted errors
ROW = "dinomaly,mvtec,mean,multi,,Dinomaly (Ours),pixel/ap,69.3,"
PLANTED = {
    "a digit that means and other tables tell": (ROW, ROW.replace("69.3", "63.9"), "agreement: dinomaly, mvtec, mean"),
    "the last digit": (ROW, ROW.replace("69.3", "69.2"), "adds up to 15968.8, its control total is 15968.9"),
    "out of range": (ROW, ROW.replace("69.3", "693.0"), "range: "),
    "another precision": (ROW, ROW.replace("69.3", "69"), "range: "),
    "unknown method": (ROW, ROW.replace("dinomaly", "dinomali", 1), "unknown method 'dinomali'"),
    "unknown metric": (ROW, ROW.replace("pixel/ap", "pixel/map"), "unknown metric 'pixel/map'"),
    "unknown setting": (ROW, ROW.replace("multi", "both"), "unknown setting 'both'"),
    "twice": (ROW, ROW.replace("pixel/ap", "pixel/f1max"), "stands twice"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_error_is_caught(case: str, copy: Path) -> None:
    old, new, message = PLANTED[case]
    path = copy / "dinomaly_cvpr2025" / "table1.csv"
    replace(path, old, new)
    assert message in failures(copy)


def test_a_class_that_breaks_its_mean_is_caught(copy: Path) -> None:
    row = "vitad,mvtec,bottle,multi,,ViTAD,pixel/ap,"
    replace(copy / "vitad" / "table6.csv", f"{row}79.9,", f"{row}75.9,")
    assert "means: vitad, mvtec, mean, multi, pixel/ap (vitad table 6): printed 55.3" in failures(copy)


def test_a_wrong_mad_is_caught(copy: Path) -> None:
    row = 'vitad,mvtec,mean,multi,"restraint stages=2,3","2,3",mad,'
    replace(copy / "vitad" / "table2.csv", f"{row}84.0,", f"{row}84.2,")
    assert "mad: vitad, restraint stages=2,3" in failures(copy)


def test_a_seed_that_breaks_the_mean_is_caught(copy: Path) -> None:
    row = "dinomaly,mvtec,mean,multi,seed=5,seed=5,pixel/ap,"
    replace(copy / "dinomaly_preprint" / "tableA7.csv", f"{row}68.64,", f"{row}68.46,")
    assert "its 5 seeds give" in failures(copy)


def test_a_lost_row_and_a_lost_table_are_caught(copy: Path) -> None:
    path = copy / "vitad" / "table13.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (copy / "vitad" / "table9.csv").unlink()
    found = failures(copy)
    assert "vitad table 13 has 23 numbers, its shape ((6, 4),) has 24" in found and "vitad table 9 is missing" in found


def test_a_mended_misprint_makes_its_exception_fail(copy: Path) -> None:
    row = "rd4ad,mvtec,mean,multi,,256²†,image/f1max,"
    replace(copy / "dinomaly_cvpr2025" / "table5.csv", f"{row}96.1,", f"{row}95.2,")
    assert "names 0 findings, expected 1" in failures(copy)


# ------------------------------------------------------------------------------------------------ corrections
def one(paper: str, number: str, **about: str) -> Score:
    (score,) = (s for s in table(paper, number) if all(getattr(s, key) == value for key, value in about.items()))
    return score


def test_a_misprint_keeps_its_digits_and_is_used_as_its_author_means_it() -> None:
    for number in ("4", "A6"):
        score = one("dinomaly_preprint", number, variant="dropout=0", metric="image/auroc")
        assert (score.value, score.used, score.number) == ("98.19", "99.19", Decimal("98.19"))
        assert score.amount == pytest.approx(0.9919)
        assert score.remark == (
            "printed 98.19; 99.19 by the author's word (github.com/guojiajeremy/Dinomaly, issue 7); 99.19 is used here"
        )
    # the same digits elsewhere are right
    assert one("dinomaly_preprint", "A4", variant="encoder=DeiT;input=448", metric="image/auroc").correction is None


def test_swapped_costs_of_the_large_encoder_are_swapped_back() -> None:
    for paper, number in (("dinomaly_cvpr2025", "4"), ("dinomaly_preprint", "A2")):
        costs = {s.metric: s.used for s in table(paper, number) if s.variant == "encoder=ViT-Large" and s.is_cost}
        assert (costs["cost/params_m"], costs["cost/macs_g"]) == ("413.5", "275.3")


@pytest.mark.parametrize(
    ("number", "about"),
    [
        ("1", {"method": "recontrast", "dataset": "visa"}),
        ("1", {"method": "recontrast", "dataset": "realiad"}),
        ("2", {"method": "patchcore", "dataset": "realiad"}),
        ("2", {"method": "patchcore", "dataset": "cifar10"}),
    ],
)
def test_a_number_that_slipped_into_another_place_is_compared_with_nothing(number: str, about: dict[str, str]) -> None:
    score = one("dual_student", number, **about)
    assert (score.used, score.amount) == ("", None)
    assert "slipped" in score.remark and score.remark.endswith("; compared with nothing")


def test_what_its_cells_contradict_is_used_as_the_cells_have_it() -> None:
    assert one("dual_student", "23", method="dskd", cls=MEAN).used == "52.4"
    assert one("dual_student", "16", method="dinomaly", cls=MEAN).used == "98.7"
    assert {s.remark for s in table("dual_student", "5") if s.method == "generalad" and not s.is_cost} == {
        "digit for digit GeneralAD's own ViT-L row, although labelled DINOv2-B"
    }


def test_a_correction_of_other_digits_is_caught(copy: Path) -> None:
    row = "dinomaly,mvtec,mean,multi,dropout=0,No Noise,image/auroc,"
    replace(copy / "dinomaly_preprint" / "tableA6.csv", f"{row}98.19,", f"{row}99.19,")
    found = failures(copy)
    assert "'dinomaly_preprint, 4/A6, dropout=0, image/auroc, 98.19' is about 1 numbers, expected 2" in found


def test_a_correction_that_its_classes_contradict_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    (right,) = (one for one in corrections() if one.value == "98.7")
    of = READER.correction_of
    monkeypatch.setattr(
        READER, "correction_of", lambda score: replaced(right, value="99.4") if of(score) is right else of(score)
    )
    found = [str(finding) for finding in means(Tables({("dual_student", "16"): table("dual_student", "16")}))]
    assert any(text.startswith("corrections: dinomaly, visa, mean") and "printed 99.4" in text for text in found)


def test_the_rows_of_knn_say_that_their_recipe_is_unstated() -> None:
    rows = [score for score in scores() if score.method == "knn"]
    assert len(rows) == 46 and {score.protocol for score in rows} == {"unstated_knn"}
    assert protocols()["unstated_knn"].summary.startswith("Recipe unstated: the paper cites Sun et al. (ICML 2022)")


# -------------------------------------------------------------------------------------------------- addresses
def wrong_addresses(**change: str) -> str:
    """What is found of Dinomaly's paper with something of it changed."""
    paper = replaced(papers()["dinomaly_cvpr2025"], **change)
    return "\n".join(str(finding) for finding in addresses(Tables({}), {"dinomaly_cvpr2025": paper}))


def test_another_papers_arxiv_number_is_caught() -> None:
    assert papers()["dinomaly_cvpr2025"].url == "https://arxiv.org/abs/2405.14325"
    assert wrong_addresses() == ""
    assert "dinomaly_cvpr2025: arXiv 2405.14573, its reference 2405.14325" in wrong_addresses(arxiv="2405.14573")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arxiv": "2405.1432"}, "has not the form 2405.14325"),
        ({"arxiv": "2413.14325"}, "has not the form 2405.14325"),
        ({"arxiv": "2605.14325"}, "is of 2026, the work of 2025"),
        ({"authors": "H. Park, Y. Seo"}, "authors H. Park, Y. Seo, its reference Jia Guo"),
    ],
)
def test_an_address_that_cannot_be_is_caught(change: dict[str, str], message: str) -> None:
    assert message in wrong_addresses(**change)


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        # as it stood for both versions, beside the right number in the method's own file
        ("dinomaly", {"arxiv": "2405.14573"}, "but the method's own file says 2405.14325"),
        ("rd4ad", {"arxiv": "2201.10730"}, "but the method's own file says 2201.10703"),
        ("uniad", {"key": "you2023unified"}, "key 'you2023unified', expected you2022 and a word"),
        ("uniad", {"arxiv": "2312.07495"}, "arxiv 2312.07495 stands twice"),
        ("vitad", {"doi": "10.1016"}, "DOI '10.1016' has not the form"),
    ],
)
def test_a_wrong_reference_is_caught(
    method: str, change: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = {**references(), method: replaced(references()[method], **change)}
    monkeypatch.setattr(proofs, "references", lambda: damaged)
    assert message in "\n".join(str(finding) for finding in addresses(Tables({}), {}))


def test_references_stand_in_the_papers_bibliographies(shared: Path) -> None:
    """Titles, and the arXiv numbers in the same entry; the newest papers are in nobody's bibliography yet."""
    entries = [
        entry
        for name in TEXTS.values()
        for entry in re.split(r"\n- ", (shared / "papers" / name).read_text(encoding="utf-8"))[1:]
    ]

    def words(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower())

    numbers = 0
    for method, reference in references().items():
        own = [entry for entry in entries if words(reference.title) in words(entry)]
        assert own or method in NEWEST, method
        printed = {number for entry in own for number in re.findall(r"arXiv:(\d{4}\.\d{5})", entry)}
        assert not printed or printed == {reference.arxiv}, method
        numbers += bool(printed)
    assert numbers >= 6


def test_printed_stds_are_the_seeds_population_stds() -> None:
    rows = table("dinomaly_preprint", "A7")
    spread = [score for score in rows if score.std]
    assert len(spread) == len(SEVEN)
    for score in spread:
        seeds = [row.number for row in rows if row.label.startswith("seed=") and row.metric == score.metric]
        assert len(seeds) == 5 and pstdev(seeds) == pytest.approx(Decimal(score.std), abs=Decimal("0.0075"))


# ------------------------------------------------------------------------------------------------- the reader
def test_reading_loads_no_more_than_the_standard_library() -> None:
    script = "import sys, bench.published as p; p.scores(), p.papers(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "pydantic", "torch", "numba"} & set(done.stdout.split())


def test_a_row_holds_what_is_printed() -> None:
    (score,) = (score for score in table("dinomaly_preprint", "A7") if score.std and score.metric == "pixel/ap")
    assert (score.value, score.std, score.variant, score.label) == ("68.88", "0.25", "seed=mean of 5", "mean±std")
    assert score.number == Decimal("68.88") and score.amount == pytest.approx(0.6888)
    assert score.where == "dinomaly_preprint table A7"


def test_a_cost_is_no_fraction() -> None:
    (memory,) = lookup("draem", "", "", "cost/train_memory_mb")
    assert memory.value == "19,852" and memory.number == 19852 and memory.is_cost
    assert memory.amount == 19852.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty table. Expected a header with the columns method,"),
        ("method,dataset\n", "no column class, setting,"),
        (f"{','.join(HEADER)}\na,b\n", "line 2: 2 fields. Expected 13"),
        (f"{','.join(HEADER)}\nm,d,c,multi,,,image/ap,n/a,,p,1,x,\n", "line 2: value 'n/a', std '', expected numbers"),
        (f"{','.join(HEADER)}\nm,d,c,multi,,,image/ap,NaN,,p,1,x,\n", "expected numbers"),
        (f"{','.join(HEADER)}\nm,d,c,multi,,,image/ap,1,±,p,1,x,\n", "std '±', expected numbers"),
        (f'{",".join(HEADER)}\n"m,d\n', "line 2: unexpected end of data"),
    ],
)
def test_a_malformed_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table1.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(message)):
        read(path)


def test_files_are_plain_and_canonical() -> None:
    for path in files():
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n") and "\r" not in text and not re.search(r"[ \t]\n", text), path
        cells = [[*row] for row in csv.reader(text.splitlines())]
        assert all(cell == cell.strip() for row in cells for cell in row), path


# --------------------------------------------------------------------------------------------------- look-ups
def test_lookup_gives_every_publication_of_a_number() -> None:
    found = lookup("dinomaly", "mvtec", MEAN, "pixel/aupro@0.3")
    assert {score.value for score in found} == {"94.8", "94.79"}
    assert {"dinomaly_cvpr2025 table 1", "dinomaly_preprint table A9", "dual_student table 22"} <= {
        score.where for score in found
    }


def test_lookup_by_class_split_setting_and_variant() -> None:
    assert [score.value for score in lookup("dinomaly", "mvtec", "screw", "pixel/ap")] == ["60.2"]
    assert {score.value for score in lookup("dual_student", "cifar10", "B", "image/auroc")} == {"97.6"}
    assert {score.value for score in lookup("dinomaly", "realiad", MEAN, "image/auroc", setting="single")} == {"92.0"}
    doubled = lookup("dinomaly", "visa", MEAN, "pixel/ap", variant="schedule=2x")
    assert [score.value for score in doubled] == ["53.8"]
    anything = lookup("dinomaly", "mvtec", MEAN, "image/auroc", setting=None, variant=None)
    assert {score.setting for score in anything} == {"multi", "single"} and len({s.variant for s in anything}) > 30


def test_lookup_of_the_unpublished_is_empty() -> None:
    assert lookup("vitad", "mvtec_loco", MEAN, "image/auroc") == ()


def test_numbers_the_research_notes_name_stand_where_they_say() -> None:
    paper = dict(zip(SEVEN, ("98.3", "99.4", "97.3", "97.7", "55.3", "58.7", "91.4"), strict=True))
    for metric, value in paper.items():
        assert {score.value for score in lookup("vitad", "mvtec", MEAN, metric)} == {value}
    assert {score.value for score in lookup("rd4ad", "", "", "cost/params_m")} == {"80.6"}
    assert {score.value for score in lookup("dual_student", "", "", "cost/params_m")} == {"233.1"}


def test_protocols_name_metrics_that_bench_computes() -> None:
    assert {score.protocol for score in scores()} == set(protocols())
    for computed in protocols().values():
        assert all(str(parse(text)).startswith(metric) for metric, text in computed.metrics.items())
    (own, *_) = table("vitad", "6")
    aupro = next(score for score in table("vitad", "6") if score.metric == "pixel/aupro@0.3")
    assert (own.computed_as, aupro.computed_as) == ("pixel/auroc", "pixel/aupro@0.3:grid100")
    assert {score.computed_as for score in table("dinomaly_cvpr2025", "1") if score.method == "vitad"} == {""}


def test_classes_and_splits_are_named_as_in_the_datasets_cards() -> None:
    datasets = {score.dataset for score in scores()} - {"", "uni_medical"}
    assert datasets <= set(DATASETS.names())
    for name in datasets:
        card = DATASETS.load(name).card
        parts = {score.cls for score in scores() if score.dataset == name} - {MEAN}
        assert not parts or parts in (set(card.classes), set(card.splits)), name


def test_every_method_and_paper_is_used() -> None:
    # what no table holds is a method of ours whose reference is known
    printed, known = {score.method for score in scores()}, set(method_names())
    assert printed <= known and known - printed <= set(METHODS.builtin)
    assert {score.paper for score in scores()} == set(papers())


# -------------------------------------------------------------------------------------------------- the papers
def test_dinomaly_table_1_equals_the_paper() -> None:
    """The golden file was cut out of the paper's text, not made from the data."""
    names = {"mvtec": "MVTec-AD", "visa": "VisA", "realiad": "Real-IAD"}
    text = ""
    for dataset, rows in groupby(table("dinomaly_cvpr2025", "1"), key=lambda score: score.dataset):
        text += f"{names[dataset]}\n"
        for label, row in groupby(rows, key=lambda score: score.label):
            by_metric = {score.metric: score.value for score in row}
            assert tuple(by_metric) == SEVEN
            text += f"  {label:15}" + "".join(f"{value:>6}" for value in by_metric.values()) + "\n"
    assert text == (GOLDEN / "dinomaly_cvpr2025_table1.txt").read_text(encoding="utf-8")


FOLDED = {("dinomaly_preprint", "A2"), ("dinomaly_preprint", "A6")}
"""Tables of which the text holds several rows, or a column, in one line."""
READ_OTHERWISE = {"99.07": "99.0", "61.5": "1.5", "39.1": "9.1"}
"""Digits that the text has lost; their rows carry a note."""


@cache
def by_class(paper: str, number: str) -> bool:
    return any(score.cls not in ("", MEAN) for score in table(paper, number))


def printed_line(score: Score) -> tuple[object, ...]:
    """What the numbers of one printed line share, with the line's neighbours told apart."""
    if score.paper == "dual_student" and score.table in ("1", "2"):
        return (score.dataset, score.setting)
    if by_class(score.paper, score.table):
        return (score.cls, score.metric == "mad")
    return (score.method, score.label, score.variant)


def test_every_line_of_every_table_stands_in_the_papers_text(shared: Path) -> None:
    number = re.compile(r"\d+(?:,\d{3})+|\d+\.?\d*")
    for paper, name in TEXTS.items():
        text = (shared / "papers" / name).read_text(encoding="utf-8")
        tokens = [f" {' '.join(number.findall(re.sub(r'</?u>|[*]', '', line)))} " for line in text.splitlines()]
        for place in papers()[paper].tables:
            if place == "text":
                continue
            for _, row in groupby(table(paper, place), key=printed_line):
                values: list[str] = []
                for score in row:
                    lost = "is lost in the text" in score.note
                    values += [READ_OTHERWISE[score.value] if lost else score.value, *filter(None, [score.std])]
                if (paper, place) in FOLDED:
                    assert any(Counter(values) <= Counter(line.split()) for line in tokens), (paper, place, values)
                else:
                    assert any(f" {' '.join(values)} " in line for line in tokens), (paper, place, values)
