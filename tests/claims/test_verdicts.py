"""Verdicts on tables: read as they are printed, what cannot be is found, and nothing real is accused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bench.claims.grids import grids
from bench.claims.numbers import Claim, claims, counts
from bench.claims.verdicts import Verdict, judge
from bench.cli.main import run
from bench.errors import UsageError
from bench.published.read import IMPOSSIBLE, scores

LATEX = r"""
\begin{table}[t]\caption{Results on MVTec-AD~\cite{bergmann}, one model.} % 12.3
\begin{tabular}{l|ccc|c@{}c}
\toprule
\multirow{2}{*}{Method} & \multicolumn{3}{c|}{Image-level} & \multicolumn{2}{c}{Pixel-level} \\ \cmidrule(lr){2-4}
 & AUROC$\uparrow$ & AP & F1-max & AUROC & AUPRO \\ \midrule
RD4AD~\cite{rd} \textit{(CVPR'22)} & 94.6 & 96.5 & 95.2 & 96.1 & 91.1 \\
\rowcolor{gray} \textbf{Ours} & \textbf{99.6}$_{\pm 0.1}$ & 99.8 & 80.1 & \underline{98.4} & -- \\
\bottomrule
\end{tabular}\end{table}
"""
MARKDOWN = """
### MVTec AD by class (I-AUROC/I-AP/I-F1max)

| Class | UniAD | **Ours** |
|:--|--:|--:|
| Bottle | 99.7/100./100. | 99.7/99.9/98.4 |
| Metal Nut | 99.2/99.9/99.5 | 99.1/96.0/91.6 |
"""


def found(path: Path, text: str, dataset: str | None = None, metric: str | None = None) -> list[Claim]:
    path.write_text(text, encoding="utf-8")
    return [claim for grid in grids(path) for claim in claims(grid, dataset, metric, averaged=False)[0]]


def told(said: list[Claim]) -> dict[tuple[str, str, str], str]:
    return {(claim.method, claim.cls, claim.metric): claim.text for claim in said}


def kinds(said: list[Claim], kind: str) -> list[Verdict]:
    return [verdict for verdict in judge(said) if verdict.kind == kind]


def test_latex_with_spans_and_markup_is_read(tmp_path: Path) -> None:
    said = told(found(tmp_path / "t.tex", LATEX))
    assert said["Ours", "mean", "image/f1max"] == "80.1"
    assert said["Ours", "mean", "pixel/auroc"] == "98.4"
    assert said["RD4AD (CVPR'22)", "mean", "pixel/aupro@0.3"] == "91.1"
    assert len(said) == 9


def test_markdown_triples_are_read(tmp_path: Path) -> None:
    said = told(found(tmp_path / "t.md", MARKDOWN))
    assert said["uniad", "bottle", "image/f1max"] == "100."
    assert said["Ours", "metal_nut", "image/ap"] == "96.0"
    assert len(said) == 12


def test_a_line_a_number_and_fractions_are_read(tmp_path: Path) -> None:
    rows = "method,class,metric,value\nmine,macaroni2,image/f1max,0.597\nmine,mean,image/auroc,0.9\n"
    first, second = found(tmp_path / "t.csv", rows, "visa")
    assert (float(first.value), float(first.unit)) == (59.7, 0.1)
    assert (second.cls, float(second.value)) == ("mean", 90.0)


def test_what_cannot_be_is_found_with_its_arithmetic(tmp_path: Path) -> None:
    mean = kinds(found(tmp_path / "t.tex", LATEX), "impossible")
    assert [one.claims[0].text for one in mean] == ["80.1"]
    assert "mean of 83.4 over the 15 classes" in mean[0].proof
    by_class = {
        (one.claims[0].method, one.claims[0].cls, one.claims[0].metric): one.proof
        for one in kinds(found(tmp_path / "t.md", MARKDOWN), "impossible")
    }
    assert set(by_class) == {
        ("uniad", "bottle", "image/f1max"),
        ("uniad", "bottle", "image/ap"),
        ("Ours", "metal_nut", "image/f1max"),
        ("Ours", "metal_nut", "image/ap"),
    }
    assert "AUROC 100.0, not 99.7" in by_class["uniad", "bottle", "image/f1max"]


@pytest.mark.parametrize("seed", range(6))
def test_a_table_of_real_rankings_is_never_accused(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = ["method,class,metric,value"]
    shares: dict[str, list[float]] = {"image/auroc": [], "image/ap": [], "image/f1max": []}
    for cls, test in counts("mvtec").items():
        truth = np.arange(test.normal + test.anomalous) >= test.normal
        drawn = rng.normal(size=len(truth)) + truth * rng.uniform(0, 5)
        drawn = np.round(drawn, int(rng.integers(0, 3))) if seed % 2 else drawn
        precision, recall, _ = precision_recall_curve(truth, drawn)
        f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        for metric, value in zip(
            shares, (roc_auc_score(truth, drawn), average_precision_score(truth, drawn), f1), strict=True
        ):
            shares[metric].append(float(value))
            lines.append(f"mine,{cls},{metric},{100 * value:.{1 + seed % 3}f}")
    lines += [f"mine,mean,{metric},{100 * np.mean(values):.{1 + seed % 3}f}" for metric, values in shares.items()]
    said = found(tmp_path / "t.csv", "\n".join(lines), "mvtec")
    assert len(said) == 48
    assert not kinds(said, "impossible")
    assert not kinds(said, "mean")
    assert seed % 2 or not kinds(said, "ties")


def test_means_are_held_against_all_rows_and_transcribed_numbers_against_papers(tmp_path: Path) -> None:
    rows = [f"rd4ad,{cls},image/auroc,98.0" for cls in counts("mvtec")]
    text = "\n".join(["method,class,metric,value", *rows, "rd4ad,mean,image/auroc,98.3"])
    said = found(tmp_path / "t.csv", text, "mvtec")
    (mean,) = kinds(said, "mean")
    assert mean.claims[0].text == "98.3" and "the 15 rows give 98.000" in mean.proof
    assert any("94.6 in" in one.proof for one in kinds(said, "differs"))
    some = found(tmp_path / "t.csv", "\n".join(text.splitlines()[:4] + text.splitlines()[-1:]), "mvtec")
    assert not kinds(some, "mean")


def test_a_difference_of_less_than_a_pair_is_named(tmp_path: Path) -> None:
    rows = "method,class,metric,value\na,toothbrush,image/auroc,99.4\nb,toothbrush,image/auroc,99.2\n"
    (one,) = kinds(found(tmp_path / "t.csv", rows, "mvtec"), "resolution")
    assert one.proof == "0.2 apart, where one swapped pair of 12 normal and 30 anomalous images makes 0.28"


def test_published_numbers_that_cannot_be_are_noted_so() -> None:
    noted = {(score.method, score.cls) for score in scores() if score.note.startswith(IMPOSSIBLE)}
    assert {("simplenet", "macaroni2"), ("simplenet", "capsules"), ("uniad", "bottle"), ("diad", "wood")} <= noted
    assert not any(method in ("dinomaly", "vitad", "dual_student") for method, _ in noted)
    remark = next(score.remark for score in scores() if score.note.startswith(IMPOSSIBLE))
    assert remark.endswith("; used as printed")


def test_the_command_judges_and_says_what_it_could_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.md"
    table.write_text(MARKDOWN, encoding="utf-8")
    assert run(["claims", str(table), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["numbers"] == 12
    assert {one["kind"] for one in facts["verdicts"]} >= {"impossible"}
    assert run(["claims", str(table)]) == 1
    assert "4 cannot be" in capsys.readouterr().out
    table.write_text(MARKDOWN.replace("MVTec AD by class", "By class"), encoding="utf-8")
    assert run(["claims", str(table)]) == 2
    assert "no dataset is named (give --dataset mvtec)" in capsys.readouterr().err
    assert run(["claims", str(table), "--dataset", "mvtek"]) == 2
    assert "Did you mean 'mvtec'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.pdf", b"%PDF", "not a table that can be read"),
        ("t.csv", b"\xff\xfe", "not UTF-8"),
        ("t.tex", b"no table here", "no table in it"),
        ("t.csv", b'a,"b\n', "not CSV"),
        ("t.csv", b"metric,value\nimage/auroc,99.0\n", "but no method"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        [claims(grid, "mvtec", None, averaged=False) for grid in grids(path)]
