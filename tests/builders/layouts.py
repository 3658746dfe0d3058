"""Miniatures of the datasets as their owners distribute them, with every quirk that a reader must cope with.

Each writer takes an empty folder and returns the samples that must be read back from it, in order. `LAYOUTS` has the
writer of each registered dataset; the contract tests read all of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from semantic_layouts import write_cifar10, write_cifar100, write_fmnist, write_view

from bench.api import Sample, Split
from bench.registry import DATASETS

SIZE = (48, 40)
"""Width and height of every image; unequal, so that swapped sides show."""

Writer = Callable[[Path], tuple[Sample, ...]]


def picture(path: Path, mode: str = "RGB") -> Path:
    """Write an image that no other path gets; the suffix decides on the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = np.random.SeedSequence(list(path.as_posix().encode()))
    shape = (SIZE[1], SIZE[0]) if mode == "L" else (SIZE[1], SIZE[0], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return path


def area(top: int, left: int) -> np.ndarray:
    """Return the defect that `mask` draws at a place: bool [H, W], a square of side 8."""
    values = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    values[top : top + 8, left : left + 8] = True
    return values


def mask(path: Path, value: int = 255, top: int = 6, left: int = 20, step: int = 1) -> Path:
    """Write a single-channel mask that holds `value` in a square; of every `step`-th row and column alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((area(top, left) * np.uint8(value))[::step, ::step], "L").save(path)
    return path


def in_order(samples: Iterable[Sample], classes: Iterable[str]) -> tuple[Sample, ...]:
    """Order samples by class as given, then by id."""
    rank = {cls: number for number, cls in enumerate(classes)}
    return tuple(sorted(samples, key=lambda sample: (rank[sample.cls], sample.id)))


def tree(
    root: Path,
    cls: str,
    defects: Iterable[str] = ("bent", "cut"),
    normal: str = "good",
    image: str = ".png",
    truth: str = "_mask.png",
    mode: str = "RGB",
) -> list[Sample]:
    """Write a class in MVTec AD's layout: three training images, two normal ones and two of each defect to test."""
    home = root / cls
    samples = []
    for split, number in (("train", 3), ("test", 2)):
        for index in range(number):
            name = f"{split}/{normal}/{index:03}"
            samples.append(
                Sample(f"{cls}/{name}", cls, split, 0, "good", picture(home / f"{name}{image}", mode))  # type: ignore[arg-type]
            )
    for defect in defects:
        for index in range(2):
            name = f"test/{defect}/{index:03}"
            where = mask(home / "ground_truth" / defect / f"{index:03}{truth}")
            samples.append(
                Sample(f"{cls}/{name}", cls, "test", 1, defect, picture(home / f"{name}{image}", mode), masks=(where,))
            )
    return samples


def write_mvtec(root: Path) -> tuple[Sample, ...]:
    """Screw is grey; licence files lie between the images."""
    samples = [*tree(root, "screw", mode="L"), *tree(root, "carpet")]
    for name in ("license.txt", "readme.txt", "screw/license.txt", "screw/readme.txt"):
        (root / name).write_text("CC BY-NC-SA 4.0")
    return in_order(samples, ("carpet", "screw"))


def write_loco(root: Path) -> tuple[Sample, ...]:
    """Validation images, a folder of masks an image, pixel values that name the defect type."""
    samples = []
    for cls in ("juice_bottle", "breakfast_box"):
        home = root / cls
        for folder, split, number in (("train", "train", 3), ("validation", "val", 2), ("test", "test", 2)):
            for index in range(number):
                file = picture(home / folder / "good" / f"{index:03}.png")
                samples.append(Sample(f"{cls}/{split}/good/{index:03}", cls, split, 0, "good", file))  # type: ignore[arg-type]
        for family in ("logical", "structural"):
            defect = f"{family}_anomalies"
            for index in range(2):
                truth = home / "ground_truth" / defect / f"{index:03}"
                masks = [mask(truth / "000.png", 241)]
                if (family, index) == ("logical", 1):
                    masks.append(mask(truth / "001.png", 7, 25, 2))
                file = picture(home / "test" / defect / f"{index:03}.png")
                name = f"{cls}/test/{defect}/{index:03}"
                samples.append(Sample(name, cls, "test", 1, defect, file, masks=tuple(masks), family=family))
        config = [
            {"defect_name": "missing", "pixel_value": 241, "saturation_threshold": 0.5, "relative_saturation": True},
            {"defect_name": "extra", "pixel_value": 7, "saturation_threshold": 3, "relative_saturation": False},
        ]
        (home / "defects_config.json").write_text(json.dumps(config))
    return in_order(samples, ("breakfast_box", "juice_bottle"))


def write_ad2(root: Path, classes: Sequence[str] = ("rice", "can")) -> tuple[Sample, ...]:
    """Masks inside of the public test set; private images in one folder, without labels."""
    samples: list[Sample] = []
    for cls in classes:
        home = root / "mvtec_ad_2" / cls
        for folder, split, number in (("train", "train", 3), ("validation", "val", 3), ("test_public", "test", 2)):
            for index in range(number):
                file = picture(home / folder / "good" / f"{index:03}_regular.png")
                samples.append(Sample(f"{cls}/{split}/good/{file.stem}", cls, split, 0, "good", file))  # type: ignore[arg-type]
        for index in range(2):
            file = picture(home / "test_public/bad" / f"{index:03}_overexposed.png")
            truth = mask(home / "test_public/ground_truth/bad" / f"{file.stem}_mask.png")
            samples.append(Sample(f"{cls}/test/bad/{file.stem}", cls, "test", 1, "bad", file, masks=(truth,)))
        for folder, word in (("test_private", "regular"), ("test_private_mixed", "mixed")):
            for index in range(2):
                file = picture(home / folder / f"{index:03}_{word}.png")
                samples.append(Sample(f"{cls}/{folder}/{file.stem}", cls, "unlabelled", None, "", file))
    return in_order(samples, sorted(classes))


def write_visa(root: Path) -> tuple[Sample, ...]:
    """JPEGs called .JPG, masks of class indices, the split in a CSV file with CRLF; stems repeat between folders."""
    samples, rows = [], []
    for cls in ("candle", "pcb1"):
        for index, split in enumerate(("train", "test", "train", "test", "train")):
            name = f"{cls}/Data/Images/Normal/{index:04}.JPG"
            rows.append((cls, split, "normal", name, ""))
            samples.append(Sample(f"{cls}/{split}/normal/{index:04}", cls, split, 0, "good", picture(root / name)))  # type: ignore[arg-type]
        for index in range(2):
            name, truth = f"{cls}/Data/Images/Anomaly/{index:03}.JPG", f"{cls}/Data/Masks/Anomaly/{index:03}.png"
            rows.append((cls, "test", "anomaly", name, truth))
            masks = (mask(root / truth, 1 + 8 * index),)
            name_there = f"{cls}/test/anomaly/{index:03}"
            samples.append(Sample(name_there, cls, "test", 1, "anomaly", picture(root / name), masks=masks))
        (root / cls / "image_anno.csv").write_text("image,label,mask\n")
    write_split(root, rows[::-1])
    return in_order(samples, ("pcb1", "candle"))


def write_split(root: Path, rows: Iterable[tuple[str, ...]], header: str = "object,split,label,image,mask") -> None:
    """Write `split_csv/1cls.csv`."""
    folder = root / "split_csv"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(row) for row in rows)]
    (folder / "1cls.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def repack_visa(source: Path, target: Path) -> None:
    """Do what the authors' preparation script does: VisA_pytorch/1cls, .JPG kept, masks 0/255."""
    for line in (source / "split_csv/1cls.csv").read_text().splitlines()[1:]:
        cls, split, label, image, truth = line.split(",")
        kind = "good" if label == "normal" else "bad"
        file = target / cls / split / kind / Path(image).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((source / image).read_bytes())
        if truth:
            mask(target / cls / "ground_truth" / kind / Path(truth).name)


def write_realiad(root: Path) -> tuple[Sample, ...]:
    """Five views an object; the JSON's entry labels a view, whichever folder it lies in; other splits lie beside it."""
    return _realiad(root)["realiad_jsons"]


def write_realiad_split(lists: str) -> Writer:
    """Return what writes Real-IAD and returns the samples of another one of its splits."""
    return lambda root: _realiad(root)[lists]


def _realiad(root: Path) -> dict[str, tuple[Sample, ...]]:
    found: dict[str, list[Sample]] = {}
    classes = ("audiojack", "zipper")
    for cls in reversed(classes):
        objects: tuple[tuple[Split, str, tuple[str, ...]], ...] = (
            ("train", "OK/S0001", ("OK",) * 5),
            ("test", "OK/S0002", ("OK",) * 5),
            ("test", "NG/HS/S0003", ("HS", "HS", "OK", "HS", "OK")),
            ("test", "NG/HS/S0004", ("HS",) * 5),
        )
        samples: list[Sample] = []
        for split, folder, views in objects:
            for view, kind in enumerate(views, 1):
                stem = f"{folder}/{cls}_{folder[-4:]}_{folder.split('/')[-2]}_C{view}_20231021"
                home = root / "realiad_1024" / cls
                bad = kind != "OK"
                masks = (mask(home / f"{stem}.png"),) if bad else ()
                file = picture(home / f"{stem}.jpg")
                defect = kind if bad else "good"
                name = f"{cls}/{split}/{stem}"
                samples.append(Sample(name, cls, split, int(bad), defect, file, masks=masks, unit=f"{cls}/{folder}"))
        lists = {"realiad_jsons": samples, "realiad_jsons_sv": [one for one in samples if "_C1_" in one.id]}
        for rate in ("0.0", "0.1", "0.2", "0.4"):
            moved = [one for one in samples if "/S0004/" in one.id][: round(10 * float(rate))]
            lists[f"realiad_jsons_fuiad_{rate}"] = [
                replace(one, split="train", masks=(), id=one.id.replace("/test/", "/train/")) if one in moved else one
                for one in samples
            ]
        for name, chosen in lists.items():
            parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
            for one in chosen:
                place = one.image.relative_to(root / "realiad_1024" / cls).as_posix()
                truth = f"{place.removesuffix('.jpg')}.png" if one.label else None
                kind = one.defect if one.label else "OK"
                entry = {"category": cls, "anomaly_class": kind, "image_path": place, "mask_path": truth}
                parts[one.split].append(entry)
            meta = {"prefix": f"{cls}/", "normal_class": "OK", "pre_transform": False}
            write_json(root / "realiad_jsons" / name, cls, {"meta": meta, **parts})
            found[name] = [*found.get(name, []), *chosen]
    return {name: in_order(samples, classes) for name, samples in found.items()}


def write_realiad_variety(root: Path) -> tuple[Sample, ...]:
    """Real-IAD's files in folders of other names; a view that is called defective and has no mask is normal."""
    samples: list[Sample] = []
    for cls in ("zip_tie", "adapter"):
        home = root / "Real-IAD_Variety/realiadvariety_1024" / cls
        parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
        for split, folder, kind in (
            ("train", "OK/S0001", "OK"),
            ("test", "OK/S0002", "OK"),
            ("test", "NG/AK/S0003", "AK"),
        ):
            for view in range(1, 6):
                stem = f"{folder}/{cls}_{folder[-4:]}_C{view}"
                file = picture(home / f"{stem}.jpg")
                masks = (mask(home / f"{stem}.png"),) if kind != "OK" and view < 3 else ()
                entry = {"category": cls, "anomaly_class": kind, "image_path": f"{stem}.jpg"}
                parts[split].append({**entry, "mask_path": f"{stem}.png" if masks else None})
                label, defect = (1, kind) if masks else (0, "good")
                name = f"{cls}/{split}/{stem}"
                samples.append(Sample(name, cls, split, label, defect, file, masks=masks, unit=f"{cls}/{folder}"))  # type: ignore[arg-type]
        meta = {"prefix": f"{cls}/", "normal_class": "OK"}
        write_json(root / "Real-IAD_Variety/realiadvariety_jsons/Real-IAD_Variety_jsons", cls, {"meta": meta, **parts})
    return in_order(samples, ("adapter", "zip_tie"))


def write_realiad_challenge(root: Path) -> tuple[Sample, ...]:
    """Objects in folders of their own; round A with answers, round B without; a class that is only tested; masks of
    half the images' size, and one of a normal view."""
    home, answers = root / "realiad_challenge", root / "realiad_challenge/standard_A"
    samples: list[Sample] = []
    lines = ["group_folder,label"]
    for cls in ("3_adapter", "DVD_switch"):
        for part, one, bad in (
            *(("Train", "S0001", False), ("Train", "S0002", False)),
            *(("Test_A", "S0001", True), ("Test_A", "S0002", False), ("Test_B", "S0001", None)),
        ):
            for view in range(5):
                file = picture(home / part / cls / one / f"{view}.png")
                split = {"Train": "train", "Test_A": "test", "Test_B": "unlabelled"}[part]
                name, unit = f"{cls}/{split}/{part}/{one}/{view}", f"{cls}/{part}/{one}"
                label, defect = (None, "") if bad is None else (1, "anomaly") if bad else (0, "good")
                where = answers / "masks" / cls / one / f"{view}_mask.png"
                masks = (mask(where, step=2),) if bad else ()
                if part == "Test_A" and not bad and view == 0:
                    mask(where, 0, step=2)
                samples.append(
                    Sample(name, cls, split, label, defect, file, masks=masks, scaled_masks=bool(masks), unit=unit)  # type: ignore[arg-type]
                )
            if part == "Test_A":
                lines.append(f"{cls}/{one},{int(bool(bad))}")
    picture(home / "Test_B" / "only_tested" / "S0001" / "0.png")
    (answers / "ground_truth.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return in_order(samples, ("3_adapter", "DVD_switch"))


def write_json(folder: Path, cls: str, content: Any) -> None:
    """Write a class's split file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{cls}.json").write_text(json.dumps(content))


def write_mpdd(root: Path) -> tuple[Sample, ...]:
    """MVTec AD's layout."""
    samples = [*tree(root, "tubes", ("anomalous",)), *tree(root, "connector", ("parts_mismatch",))]
    return in_order(samples, ("connector", "tubes"))


def write_btad(root: Path) -> tuple[Sample, ...]:
    """The words ok and ko; bmp or png images; masks without `_mask`, bmp for product 03."""
    home = root / "BTech_Dataset_transformed"
    formats = {"01": (".bmp", ".png"), "02": (".png", ".png"), "03": (".bmp", ".bmp")}
    samples = [
        sample
        for cls, (image, truth) in formats.items()
        for sample in tree(home, cls, ("ko",), normal="ok", image=image, truth=truth)
    ]
    return in_order(samples, formats)


def write_autovi(root: Path) -> tuple[Sample, ...]:
    """A folder of masks an image, as LOCO's, and a saturation file in one of the classes."""
    samples = [
        sample
        for cls in ("tank_screw", "pipe_clip")
        for sample in tree(root / "AutoVI", cls, ("missing",), truth="/0000.png")
    ]
    config = [{"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True}]
    (root / "AutoVI/tank_screw/defects_config.json").write_text(json.dumps(config))
    return in_order(samples, ("pipe_clip", "tank_screw"))


def write_vad(root: Path) -> tuple[Sample, ...]:
    """One product without masks; anomalous images to train on, which nobody reads."""
    samples = tree(root, "vad", ("bad",))
    for index in range(3):
        picture(root / f"vad/train/bad/{index:04}.png")
    shutil.rmtree(root / "vad/ground_truth")
    return in_order((replace(sample, masks=()) for sample in samples), ("vad",))


def write_goodsad(root: Path) -> tuple[Sample, ...]:
    """JPEGs with masks in PNG."""
    samples = [*tree(root, "food_box", ("opened",), image=".jpg", truth=".png"), *tree(root, "drink_can", image=".jpg")]
    return in_order(samples, ("drink_can", "food_box"))


def write_3cad(root: Path) -> tuple[Sample, ...]:
    """MVTec AD's layout, masks named as their images."""
    samples = [*tree(root, "Iron_Stator", ("scratch",), truth=".png"), *tree(root, "Aluminum_Pc", truth=".png")]
    return in_order(samples, ("Aluminum_Pc", "Iron_Stator"))


def write_bmad(root: Path) -> tuple[Sample, ...]:
    """Masks beside the images of Brain, whose normal test images have black ones; Chest without folders inside."""
    samples: list[Sample] = []
    for cls, inside in (("Brain", "img/"), ("Chest", "")):
        for folder, split, kind in (
            ("train", "train", "good"),
            ("valid", "val", "good"),
            ("valid", "val", "Ungood"),
            ("test", "test", "good"),
            ("test", "test", "Ungood"),
        ):
            for index in range(2):
                stem, bad = f"{index:05}_{60 + index}", kind == "Ungood"
                home = root / "BMAD" / cls / folder / kind
                file = picture(home / f"{inside}{stem}.png")
                masks = (mask(home / "label" / f"{stem}.png", 255 if bad else 0),) if inside and split == "test" else ()
                if not (bad and split == "val"):
                    name, defect = f"{cls}/{split}/{kind}/{stem}", "Ungood" if bad else "good"
                    samples.append(Sample(name, cls, split, int(bad), defect, file, masks=masks if bad else ()))  # type: ignore[arg-type]
    return in_order(samples, ("Brain", "Chest"))


def write_uni_medical(root: Path) -> tuple[Sample, ...]:
    """MVTec AD's layout with the one defect Ungood."""
    samples = [*tree(root, "retinal", ("Ungood",), truth=".png"), *tree(root, "brain", ("Ungood",), truth=".png")]
    return in_order(samples, ("brain", "retinal"))


def write_dtd(root: Path) -> tuple[Sample, ...]:
    """DTD: one picture of each texture."""
    names = DATASETS.load("dtd").card.classes
    found = [picture(root / "dtd" / "images" / name / f"{name}_0001.jpg") for name in names]
    return tuple(
        Sample(f"{name}/train/good/{path.stem}", name, "train", 0, "good", path)
        for name, path in zip(names, found, strict=True)
    )


def write_folder(root: Path) -> tuple[Sample, ...]:
    """Anyone's own: other formats, no masks for one class."""
    samples = [*tree(root, "zigzag", image=".jpeg"), *tree(root, "apples", ("rot",), image=".tif", truth=".png")]
    return in_order(samples, ("apples", "zigzag"))


LAYOUTS: dict[str, Writer] = {
    "mvtec": write_mvtec,
    "mvtec_loco": write_loco,
    "mvtec_ad2": write_ad2,
    "visa": write_visa,
    "realiad": write_realiad,
    "realiad_variety": write_realiad_variety,
    "realiad_challenge": write_realiad_challenge,
    "realiad_sv": write_realiad_split("realiad_jsons_sv"),
    **{
        f"realiad_fuiad_{rate}": write_realiad_split(f"realiad_jsons_fuiad_{rate if rate != '0' else '0.0'}")
        for rate in ("0", "0.1", "0.2", "0.4")
    },
    "autovi": write_autovi,
    "vad": write_vad,
    "goodsad": write_goodsad,
    "3cad": write_3cad,
    "bmad": write_bmad,
    "uni_medical": write_uni_medical,
    "mpdd": write_mpdd,
    "dtd": write_dtd,
    "btad": write_btad,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "fmnist": write_fmnist,
    "view": write_view,
    "folder": write_folder,
}
