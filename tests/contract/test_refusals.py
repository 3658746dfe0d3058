"""What cannot work stops before any work: before weights are looked for, before data are hashed, and says what fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from bench.encoders import catalog
from bench.encoders import weights as weights_
from bench.machine.progress import Silent
from bench.plan.cells import expand
from bench.plan.request import Request
from bench.registry import METHODS

VIT = "vit_tiny_patch8_128.bench"
CNN = "test_resnet.r160_in1k"
REGISTERS_ONLY = "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k"
BARE = "vit_base_patch16_siglip_224.webli"
GIVES_DINOV2 = "Try vit_base_patch14_reg4_dinov2.lvd142m"

STEPS = {"multi": 10_000, "single": 5_000, "few-shot": 10_000, "few-shot-single": 5_000}
"""Dinomaly's iterations by setting."""

CASES: list[tuple[str, list[str], list[str]]] = [
    # an encoder of another kind
    ("dinomaly", [f"encoder={CNN}"], ["needs a ViT", "is a CNN", GIVES_DINOV2]),
    ("dinomaly2", [f"encoder={CNN}"], ["needs a ViT", "is a CNN", GIVES_DINOV2]),
    ("inp_former", [f"encoder={CNN}"], ["needs a ViT", "is a CNN", GIVES_DINOV2]),
    ("dual_student", [f"encoder={CNN}"], ["needs a ViT", "is a CNN", GIVES_DINOV2]),
    ("vitad", [f"encoder={CNN}"], ["needs a plain ViT", "is a CNN", "Try vit_small_patch16_224.dino", "rd4ad"]),
    ("rd4ad", [f"encoder={VIT}"], ["needs a CNN", "is a ViT", "Try wide_resnet50_2.racm_in1k", "vitad and dinomaly"]),
    ("anomalydino", [f"encoder={CNN}"], ["needs a ViT", "is a CNN", "Try vit_small_patch14_dinov2.lvd142m"]),
    ("rad", [f"encoder={CNN}"], ["class token", "is a CNN", "Try vit_base_patch16_dinov3.lvd1689m"]),
    ("rad", [f"encoder={BARE}"], ["class token", "ViT without one"]),
    ("subspacead", [f"encoder={CNN}"], ["needs a ViT", "is a CNN", GIVES_DINOV2]),
    ("uniad", [f"encoder={VIT}"], ["needs a CNN", "is a ViT", "Try tf_efficientnet_b4.aa_in1k", "vitad and dinomaly"]),
    ("knn", [f"encoder={CNN}"], ["class token", "is a CNN", GIVES_DINOV2]),
    # no class token
    ("dinomaly2", [f"encoder={REGISTERS_ONLY}"], ["recentres", "has none", GIVES_DINOV2, "recentre=false"]),
    ("dinomaly2", [f"encoder={BARE}"], ["recentres", "has none", GIVES_DINOV2]),
    ("dual_student", [f"encoder={REGISTERS_ONLY}"], ["class tokens", "has none", GIVES_DINOV2, "students=decoder"]),
    ("dual_student", [f"encoder={BARE}"], ["class tokens", "has none", GIVES_DINOV2]),
    ("knn", [f"encoder={REGISTERS_ONLY}"], ["class token", "ViT without one", GIVES_DINOV2]),
    ("knn", [f"encoder={BARE}"], ["class token", "ViT without one", GIVES_DINOV2]),
    # an input size that does not divide
    *(
        (method, [f"encoder={VIT}", "input_size=36"], ["input size 36 does not fit", "for example 32 or 40"])
        for method in (
            "dinomaly",
            "dinomaly2",
            "inp_former",
            "dual_student",
            "vitad",
            "patchcore",
            "uniformaly",
            "knn",
            "subspacead",
            "anomalydino",
            "rad",
        )
    ),
    ("rd4ad", [f"encoder={CNN}", "input_size=80"], ["input size 80 does not fit", "for example 64 or 96"]),
    ("uniad", [f"encoder={CNN}", "input_size=72"], ["input size 72 does not fit", "for example 64 or 80"]),
    # layers that are not there
    ("dinomaly", ["layers=[5,6,7,8,9,10,11,13]"], ["blocks [5, 6, 7, 8, 9, 10, 11, 13] do not fit", "0 to 11"]),
    ("dinomaly", ["layers=[9,8,7,6,5,4,3,2]"], ["ascending", "0 to 11"]),
    ("dual_student", ["layers=[0,1,2,3,4,5,6,40]"], ["blocks [0, 1, 2, 3, 4, 5, 6, 40] do not fit", "0 to 11"]),
    ("dual_student", ["layers=[9,8,7,6,5,4,3,2]"], ["ascending", "0 to 11"]),
    ("vitad", ["targets=[2,5,13]"], ["blocks [2, 5, 11, 13] do not fit", "0 to 11"]),
    ("vitad", ["fused=[14]"], ["do not fit", "0 to 11"]),
    ("rd4ad", [f"encoder={CNN}", "stages=[2,3,7]"], ["do not fit", "0 to 4"]),
    ("rd4ad", [f"encoder={CNN}", "stages=[1,2,4]"], ["strides", "twice the one before"]),
    ("patchcore", [f"encoder={VIT}", "layers=[3,15]"], ["do not fit", "0 to"]),
    ("inp_former", ["decoder_depth=4"], ["inp_former.decoder_groups", "count from 0 to 3"]),
    ("inp_former", ["steps=5", "epochs=2"], ["steps 5 and epochs 2 are both given"]),
    ("inp_former", ["prototypes=0", "coherence=0.5"], ["inp_former.coherence", "no effect", "prototypes 0"]),
    ("dinomaly", [f"encoder={VIT}", "layers=[1,2]"], ["dinomaly.groups", "exactly once"]),
    ("dinomaly", ["encoder=test_vit.r160_in1k"], ["6 blocks", "--set dinomaly.layers=[...]"]),
    # settings that contradict each other
    ("dinomaly", ["decoder_depth=4"], ["decoder_groups", "count from 0 to 3"]),
    ("dinomaly", ["neighbour_mask=4"], ["no middle patch", "3 or 5"]),
    ("dinomaly", ["constraint=1-group", "groups=[[0],[1]]"], ["dinomaly.groups", "no effect", "constraint 1-group"]),
    ("dual_student", ["students=encoder", "ensemble=sum"], ["dual_student.ensemble", "no effect", "students encoder"]),
    ("vitad", ["targets=[2,5]"], ["vitad.decoder", "for each of the 2"]),
    ("vitad", ["fused=[8,11]", "fuser=none"], ["vitad.fuser 'none' does not fit", "vitad.fuse=add"]),
    ("vitad", ["fuser=conv", "class_token=true"], ["'conv' takes no class token"]),
    ("vitad", ["fuser_depth=3"], ["vitad.fuser_depth = 3 has no effect", "fuser linear"]),
    ("rd4ad", [f"encoder={CNN}", "input_size=32", "batch_size=1"], ["single images of 32 pixels", "batch_size of 2"]),
    ("rdpp", [f"encoder={CNN}", "input_size=32", "batch_size=1"], ["single images of 32 pixels", "batch_size of 2"]),
    ("recontrast", [f"encoder={VIT}"], ["needs a CNN", "is a ViT"]),
    ("recontrast", [f"encoder={CNN}", "input_size=32", "batch_size=1"], ["single images of 32", "batch_size of 2"]),
    ("recontrast", ["hardness=-4"], ["recontrast.hardness -4.0 is below", "hardness_start -3.0"]),
    ("recontrast", ["decoder_blocks=[3,0,1]"], ["decoder_blocks (3, 0, 1)", "1 or more"]),
    ("recontrast", ["decay_at=1", "decay=0.5"], ["recontrast.decay = 0.5 has no effect", "decay_at 1"]),
    ("destseg", [f"encoder={VIT}"], ["needs a CNN", "is a ViT"]),
    ("destseg", [f"encoder={CNN}", "batch_size=1"], ["single images", "batch_size of 2"]),
    ("destseg", [f"encoder={CNN}", "score_pixels=9"], ["destseg.score_pixels = 9 has no effect", "image_score max"]),
    ("destseg", ["steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    ("panda", [f"encoder={VIT}"], ["panda needs a CNN", "is a ViT", "knn"]),
    ("panda", [f"encoder={CNN}", "input_size=70"], ["input size 70 does not fit", "for example 64 or 96"]),
    ("msc", [f"encoder={VIT}"], ["msc needs a CNN", "is a ViT", "knn"]),
    ("msc", [f"encoder={CNN}", "input_size=70"], ["input size 70 does not fit msc", "for example 64 or 96"]),
    ("msc", [f"encoder={CNN}", "batch_size=1"], ["single images", "batch_size of 2 or more"]),
    ("msc", ["steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    ("transformaly", [f"encoder={CNN}"], ["transformaly needs a ViT with a class token", "is a CNN"]),
    ("transformaly", [f"encoder={VIT}", "first_block=12"], ["first_block is 12", "12 blocks (0 to 11)"]),
    ("transformaly", ["steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    ("realnet", [f"encoder={VIT}"], ["realnet needs a CNN", "is a ViT", "mobilenetv2_100"]),
    (
        "realnet",
        [f"encoder={CNN}", "input_size=70", "highest=1", "widest=1"],
        ["input size 70", "for example 128 or 256"],
    ),
    ("realnet", [f"encoder={CNN}", "highest=9999"], ["highest 9999", "kept channels"]),
    ("realnet", [f"encoder={CNN}", "kept=[1,1,1,2]"], ["realnet.kept", "four shares above 0, up to 1"]),
    ("realnet", ["steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    ("efficientad", [f"encoder={VIT}"], ["efficientad needs a CNN", "is a ViT", "mobilenetv2_100"]),
    ("efficientad", [f"encoder={CNN}", "input_size=80"], ["input size 80 does not fit", "for example 64 or 96"]),
    ("efficientad", [f"encoder={CNN}", "low_quantile=0.999"], ["low_quantile 0.999", "is not below", "0.995"]),
    (
        "efficientad",
        ["teacher=x.pth", "distilled_textures=2"],
        ["distilled_textures = 2 has no effect", "teacher given"],
    ),
    ("panda", ["steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    ("rdpp", ["projection_weight=0", "margin=0.1"], ["rdpp.margin = 0.1 has no effect", "projection_weight 0"]),
    ("rdpp", ["decay=0.5"], ["rdpp.decay = 0.5 has no effect", "decay_at 1"]),
    ("cflow", [f"encoder={CNN}", "condition=6"], ["cflow.condition is 6", "a multiple of 4"]),
    ("cflow", ["warm_epochs=20"], ["cflow.warm_epochs is 20", "cflow.meta_epochs, 10"]),
    ("draem", ["input_size=32", "batch_size=1"], ["single images of 32 pixels", "batch_size of 2"]),
    ("draem", ["score_pool=4"], ["draem.score_pool is 4", "an odd number up to draem.input_size, 256"]),
    ("draem", ["decay_at=[0.9,0.8]"], ["draem.decay_at is [0.9, 0.8]", "ascending"]),
    ("draem", ["painted=0", "shown=0.1"], ["draem.shown = 0.1 has no effect", "painted 0"]),
    ("draem", ["steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    ("generalad", [f"encoder={BARE}", "heads=5"], ["generalad.heads = 5", "does not divide"]),
    ("generalad", [f"encoder={CNN}"], ["generalad needs a ViT"]),
    ("invad", [f"encoder={CNN}", "input_size=16", "batch_size=1"], ["single images of 16 pixels", "batch_size of 2"]),
    ("invad", [f"encoder={CNN}", "steps=3", "epochs=2"], ["steps 3 and epochs 2 are both given"]),
    (
        "uniad",
        [f"encoder={CNN}", "input_size=64"],
        ["neighbour_mask 7 hides the whole map of 4x4", "Expected 3 or less"],
    ),
    ("uniad", [f"encoder={CNN}", "strides=[4,64]"], ["uniad.strides 4, 64", "are 2, 4, 8"]),
    ("uniad", ["neighbour_mask=0", 'masked=["encoder"]'], ["uniad.masked", "no effect", "neighbour_mask 0"]),
    ("patchcore", ["neighbourhood=4"], ["neighbourhood is 4", "odd"]),
    ("simplenet", ["neighbourhood=4"], ["neighbourhood is 4", "odd"]),
    ("simplenet", ["margin=0.2", "loss=cross_entropy"], ["simplenet.margin = 0.2 has no effect", "loss cross_entropy"]),
    ("simplenet", ["decay=0.2"], ["simplenet.decay = 0.2 has no effect", "decay_at 1"]),
    ("subspacead", ["smoothing_window=4"], ["smoothing_window is 4", "odd"]),
    (
        "uniformaly",
        [f"encoder={CNN}"],
        ["needs a plain ViT with a class", "is a CNN", "vit_base_patch8_224.dino"],
    ),
    ("uniformaly", [f"encoder={BARE}"], ["needs a plain ViT with a class token", "ViT of another kind"]),
    ("uniformaly", [f"encoder={VIT}", "layers=[3,15]"], ["layers [3, 15] do not fit", "0 to 11"]),
    ("uniformaly", [f"encoder={VIT}", "window=4"], ["uniformaly.window is 4", "odd"]),
    ("rad", ["layers=[]"], ["rad.layers is empty"]),
    ("rad", ["layers=[3,15]"], ["do not fit", "0 to 11"]),
    ("rad", ["layer_weights=[1,2]"], ["rad.layer_weights is [1.0, 2.0]", "each of the 4 layers"]),
    ("rad", ["layer_weights=[0,0,0,0]"], ["not all 0"]),
    ("rad", ["radius=-1"], ["rad: radius = -1", "bench show rad"]),
    ("anomalydino", ["mask_threshold=5"], ["mask_threshold = 5", "no effect", "masking and masked_memory off"]),
    ("subspacead", ["variance=1"], ["subspacead: variance = 1", "less than 1", "bench show subspacead"]),
    # values out of range, settings that are not there
    ("dinomaly", ["dropout=1"], ["dinomaly: dropout = 1", "less than 1", "bench show dinomaly"]),
    ("vitad", ["loss=l2"], ["vitad: loss = 'l2'", "cosine_flat"]),
    ("knn", ["steps=5"], ["knn: steps = 5", "less than or equal to 0"]),
    ("rd4ad", ["fuser_widht=3"], ["no setting 'fuser_widht'", "Did you mean 'fuser_width'?"]),
    ("dinomaly", ["encoder=vit_base_patch14_dinov2.lvd142n"], ["unknown encoder", "Did you mean"]),
]


@pytest.mark.parametrize(("method", "values", "words"), CASES, ids=lambda value: str(value)[:60])
def test_what_does_not_fit_is_refused_before_any_work(
    method: str, values: list[str], words: list[str], bench: Callable[..., Any], tree: Path, tmp_path: Path
) -> None:
    pairs = [part for value in values for part in ("--set", f"{method}.{value}")]
    # the weights are not there: whoever looked for them would say so instead
    given = ("--datasets", "folder", "--data-root", str(tree), "--weights", "nowhere", "--results", "out")
    done = bench("run", "--methods", method, *given, *pairs)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == [tree] and "hash" not in done.stderr


def test_data_are_looked_for_before_weights(bench: Callable[..., Any], tree: Path) -> None:
    """The refusals above are not those of the missing folder."""
    given = ("run", "--methods", "patchcore", "--datasets", "folder", "--weights", "nowhere", "--encoder", BARE)
    assert "nothing: no such folder" in bench(*given, "--data-root", "nothing").stderr
    assert "no weights folder nowhere" in bench(*given, "--data-root", str(tree)).stderr


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS.load(name).encoders])
def test_without_weights_the_advice_can_be_followed(
    name: str, bench: Callable[..., Any], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_, "at_hand", lambda encoder, folder=None: catalog.embedded_file(encoder))
    monkeypatch.setattr(weights_, "_hub_trouble", lambda repo: "it is switched off")
    given = ("run", "--methods", name, "--datasets", "folder", "--data-root", str(tree), "--results", "out")
    done = bench(*given)
    assert done.returncode == 2 and "it is switched off" in done.stderr
    advice = done.stderr.partition("To try at once, with the encoder that bench brings: ")[2].split()
    # some have no use for a ViT
    assert bool(advice) == ("vit" in METHODS.load(name).encoders)
    if advice:
        assert bench(*given, *advice, "--dry-run").returncode == 0


def test_a_dry_run_needs_no_weights_and_asks_nobody(
    bench: Callable[..., Any], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_, "_cached", lambda encoder: None)
    monkeypatch.setattr(weights_, "_from_hub", lambda *given: pytest.fail("the hub was asked"))
    given = ("--methods", "dinomaly", "--datasets", "folder", "--data-root", str(tree), "--results", "out")
    done = bench("run", *given, "--dry-run", BENCH_WEIGHTS="")
    assert done.returncode == 0, done.stderr
    assert re.search(r"dinomaly on folder, multi, seed 0 +2 +10 +10 +10000 .* new ", done.stdout)
    assert "weights of vit_base_patch14_reg4_dinov2.lvd142m: would be fetched, about 346 MB" in done.stdout
    monkeypatch.setattr("bench.machine.terminal.PIPED_WIDTH", 80)
    head, cell, encoder, counts, *_ = (line.rstrip() for line in bench("run", *given, "--dry-run").stdout.splitlines())
    assert head.split() == ["cell", "state", "time"] and cell.startswith("dinomaly on folder, multi, seed 0 ")
    assert encoder == "  vit_base_patch14_reg4_dinov2.lvd142m @ 392"
    assert counts == "  2 classes, 10 + 10 images, 10,000 steps"


def test_the_papers_values_of_a_setting_are_planned(tree: Path) -> None:
    asked = Request(
        methods=("dinomaly", "dual_student", "vitad"),
        datasets=("folder",),
        settings=("multi", "single", "few-shot", "few-shot-single"),
        shots=2,
        encoder=VIT,
        data_roots=(str(tree),),
    )
    cells = expand(asked, Silent())
    found = {(cell.method.name, cell.task.setting): cell.steps for cell in cells}
    assert len(cells) == 3 * (1 + 2 + 1 + 2)
    assert found == {
        **{("dinomaly", setting): steps for setting, steps in STEPS.items()},
        ("dual_student", "multi"): 50_000,
        ("dual_student", "single"): 5_000,
        ("dual_student", "few-shot"): 50_000,
        # as the paper's few-shot table: a model a class, trained as on all images
        ("dual_student", "few-shot-single"): 5_000,
        # 100 epochs of 10, 5, 4 and 2 images in batches of 8
        **dict.fromkeys([("vitad", setting) for setting in STEPS], 100),
    }
    assert {cell.changed for cell in cells} == {("encoder",)}, "the paper's own values count as unchanged"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with random weights for the CNN."""
    save_file(timm.create_model(CNN, num_classes=0).state_dict(), tmp_path / f"{CNN}.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"epochs": 100}, ()),
        ({"epochs": 50}, ("epochs",)),
        ({"steps": 500}, ("steps",)),
        ({"batch_size": 8}, ("batch_size",)),
        ({"batch_size": 8, "lr": 5e-3}, ("batch_size", "lr")),
        ({"variant": "original"}, ("variant",)),
        ({"variant": "original", "fuser_width": 128}, ("variant",)),
        ({"variant": "original", "fuser_width": 64}, ("variant", "fuser_width")),
    ],
)
def test_what_follows_from_a_changed_value_is_no_change_of_its_own(
    tree: Path, weights: Path, given: dict[str, Any], changed: tuple[str, ...]
) -> None:
    values = {"encoder": CNN, "input_size": 64, **given}
    asked = Request(("rd4ad",), ("folder",), set={"rd4ad": values}, data_roots=(str(tree),), weights=weights)
    (cell,) = expand(asked, Silent())
    assert set(cell.changed) == {"encoder", "input_size", *changed}
