from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from made_records import made

from bench.cli import derived, main, show
from bench.registry import DATASETS, METHODS
from bench.store import record as records


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = call(capsys, "show", *arguments, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def methods() -> dict[str, dict[str, Any]]:
    """What `--json` gives for every method; made once, since counting a ViT takes a second."""
    found = {}
    for name in METHODS.names():
        out = io.StringIO()
        with redirect_stdout(out):
            assert main.run(["show", name, "--json"]) == 0
        found[name] = json.loads(out.getvalue())
    return found


def test_dinomalys_cost_is_the_published_one(methods: dict[str, dict[str, Any]]) -> None:
    cost = methods["dinomaly"]["cost"]
    assert cost["params_total"] == 148_008_960
    assert cost["params_trainable"] == 61_425_408
    assert cost["macs"] == pytest.approx(104.60e9, rel=0.005)


def test_a_methods_facts(methods: dict[str, dict[str, Any]]) -> None:
    found = methods["dinomaly"]
    assert found["name"] == "dinomaly" and found["title"].startswith("Dinomaly: ")
    assert found["encoder"]["input_size"] == 392 and found["encoder"]["blocks"] == list(range(2, 10))
    assert found["dataset_overrides"]["realiad"] == {"dropout": 0.4, "steps": 50_000}
    assert found["paper_protocol"]["name"] == "paper:dinomaly" and found["family"] == "reconstruction"
    large = {"variant": "encoder=ViT-Large", "printed": "275.3 M parameters, 413.5 GMAC"}
    assert {**large, "where": "dinomaly_cvpr2025 table 4"} in found["published_cost"]
    assert methods["knn"]["published_cost"] == []
    assert found["settings"]["steps"]["value"] == found["settings"]["steps"]["default"] == 10_000


@pytest.mark.parametrize("name", METHODS.names())
def test_every_setting_says_what_it_is_and_where_its_default_comes_from(
    methods: dict[str, dict[str, Any]], name: str
) -> None:
    settings = methods[name]["settings"]
    assert settings.keys() == METHODS.load(name).Config.model_fields.keys()
    for key, setting in settings.items():
        assert setting["source"] and setting["help"], key
        assert setting["value"] == setting["default"], key


def test_settings_can_be_tried(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = ("--set", "dinomaly.encoder=vit_small_patch14_reg4_dinov2.lvd142m", "--set", "dinomaly.steps=5")
    found = facts(capsys, "dinomaly", *pairs)
    assert found["cost"]["params_total"] == 37_435_392
    assert (found["settings"]["steps"]["value"], found["settings"]["steps"]["default"]) == (5, 10_000)


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "show", "dinomaly")
    assert code == 0 and "148,008,960 parameters, 61,425,408 trainable, 104.60 GMAC an image" in out
    assert "printed   148.0 M parameters, 104.7 GMAC (dinomaly_cvpr2025 table 4, dinomaly_preprint table A2)" in out
    assert "275.3" not in out, "that is of another encoder"
    assert "on realiad   dropout = 0.4, steps = 50000" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    for key in METHODS.load("dinomaly").Config.model_fields:
        assert key in rows
    assert re.match(r"layers +null ", rows["layers"]), "values are spelt as --set takes them"
    assert re.match(r"groups +\[\[0, 1, 2, 3\], \[4, 5, 6, 7\]\] ", rows["groups"])
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("name", "looks", "needs"),
    [
        ("dinomaly", "blocks [2, 3, 4, 5, 6, 7, 8, 9], input 392 px, dinov2 positions", None),
        ("destseg", "stages [1, 2, 3], input 256 px", "images, textures"),
        ("panda", "stages [4], input 224 px", "images, trunk"),
    ],
)
def test_an_encoder_is_told_in_the_words_of_its_kind(
    capsys: pytest.CaptureFixture[str], name: str, looks: str, needs: str | None
) -> None:
    lines = call(capsys, "show", name)[1].splitlines()
    encoder = next(line for line in lines if line.startswith("encoder   "))
    assert encoder.endswith(looks)
    assert [line.removeprefix("needs     ") for line in lines if line.startswith("needs ")] == [needs] * bool(needs)


def test_a_datasets_card(capsys: pytest.CaptureFixture[str]) -> None:
    card = facts(capsys, "mvtec")
    assert card["counts"]["bottle"] == {"train": 209, "good": 20, "bad": 63, "val": 0, "unlabelled": 0}
    assert len(card["classes"]) == 15
    code, out, _ = call(capsys, "show", "mvtec")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("mvtec  ")
    assert [line.split() for line in lines if line.startswith("bottle")] == [["bottle", "209", "20", "63"]]
    assert lines[-1].split() == ["all", "3,629", "467", "1,258"]

    for word in (card["licence"], card["citation"], card["source"], *card["notes"]):
        assert word in out


def test_a_card_tells_validation_images_and_half_splits(capsys: pytest.CaptureFixture[str]) -> None:
    lines = call(capsys, "show", "mvtec_loco")[1].splitlines()
    heads = next(line.split() for line in lines if line.startswith("class "))
    assert heads == ["class", "train", "validation", "good", "anomalous"]
    assert lines[-1].split() == ["all", "1,778", "305", "575", "993"]
    lines = call(capsys, "show", "view")[1].splitlines()
    assert "split A   normal: buildings, forest, glacier" in lines
    assert next(line.split() for line in lines if line.startswith("class ")) == ["class", "train", "test"]
    assert lines[-1].split() == ["all", "14,034", "3,000"]


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_dataset_has_a_card_to_show(capsys: pytest.CaptureFixture[str], name: str) -> None:
    card = facts(capsys, name)
    assert card["name"] == name and card["title"] and card["licence"] and card["source"]
    code, out, _ = call(capsys, "show", name)
    assert code == 0 and out.startswith(f"{name}  {card['title']}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dinomly",), "nothing is called 'dinomly'. Did you mean 'dinomaly'? Known: dinomaly"),
        (("mvtek",), "Did you mean 'mvtec'?"),
        ((), "Missing argument 'NAME'. See: bench show --help"),
        (("dinomaly", "--set", "dinomaly.droput=1"), "Did you mean 'dropout'?"),
        (("dinomaly", "--set", "dinomaly.dropout=2"), "less than 1"),
        (("dinomaly", "--set", "steps=2"), "expected method.key=value"),
        (("dinomaly", "--set", "dinomaly.encoder=nonsense"), "nonsense"),
        (("mvtec", "--set", "dinomaly.steps=2"), "mvtec is a dataset"),
        (("dinomaly", "--jsn"), "--json"),
        (("resnet18.tv_in1q",), "Did you mean: resnet18.tv_in1k"),
        (("nothing_at_all",), "unknown encoder 'nothing_at_all'. Encoders are timm model names"),
        (("nowhere.json",), "nowhere.json: no such file"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = call(capsys, "show", *arguments)
    assert (code, out) == (2, "") and message in err
    assert err.startswith("error: ") and "Traceback" not in err and err.count("\n") == 1


def test_an_encoders_shape_and_where_its_weights_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = facts(capsys, "vit_tiny_patch8_128.bench")
    assert (own["family"], own["depth"], own["dim"], own["patch"], own["input_size"]) == ("vit", 12, 128, 8, 128)
    assert own["weights"].endswith("vit_tiny_patch8_128.safetensors")
    monkeypatch.setattr("bench.encoders.weights._cached", lambda name: None)
    out = call(capsys, "show", "resnet18.tv_in1k")[1]
    assert out.startswith("resnet18.tv_in1k  CNN, 11.2 million parameters\n") and "512 channels at stride 32" in out
    assert "weights   not here; fetched from the hub on first use, about 45 MB" in out


def test_a_records_scores_are_shown_as_its_run_showed_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "s0.json"
    record = made()
    records.write(record, path)
    out = call(capsys, "show", str(path))[1]
    assert f"{record.cell.title}, seed {record.cell.seed}, protocol {record.cell.protocol}" in out
    assert all(name in out for name in record.scores) and f"created   {record.created}" in out
    assert facts(capsys, str(path))["cell"]["fingerprint"] == record.cell.fingerprint


def test_what_was_counted_once_is_kept_until_bench_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("vitad", "--set", "vitad.steps=7")
    first = facts(capsys, *asked)
    monkeypatch.setattr(show, "_method", lambda name, pairs: pytest.fail("counted again"))
    assert facts(capsys, *asked) == first and first["settings"]["steps"]["value"] == 7
    monkeypatch.setattr(derived, "DECIDE", ("torch",))  # as if a package had another version
    with pytest.raises(pytest.fail.Exception, match="counted again"):
        call(capsys, "show", *asked)


def test_on_a_narrow_terminal_each_meaning_has_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.machine.terminal.PIPED_WIDTH", 80)
    lines = call(capsys, "show", "knn")[1].splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("input_size = "))
    assert lines[place + 1].startswith("    ") and max(map(len, lines[place:])) <= 80


def test_a_setting_of_another_method_is_not_passed_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS.targets, "other", "bench.methods.dinomaly:Dinomaly")
    code, _, err = call(capsys, "show", "dinomaly", "--set", "other.steps=2")
    assert code == 2 and "--set names 'other', but only these were asked for: dinomaly" in err
