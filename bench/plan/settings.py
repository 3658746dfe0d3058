"""Tasks of the settings: what each model is trained on and what it is tested on.

| setting | industrial | semantic |
|---|---|---|
| multi | one model for all classes | one a half-split: its classes are normal, the others anomalous |
| single | one model a class | one a class: that class is normal, the others anomalous |
| few-shot | as multi, from k training images a class | as multi, from k training images a normal class |
| few-shot-single | as single, from k training images | as single, from k training images |
| noisy-RATE | as multi, anomalous images among the training images | likewise, images of the other classes |

Few-shot tables of papers are mostly of a model a class; few shots in the multi-class way are bench's own. A seed
chooses the same images of a class in both.

Semantic sets train on the normal classes' training images and test on the whole official test split. Validation images
are in neither. The half-splits follow UniAD (You et al., NeurIPS 2022); each dataset's card names its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from bench.api import Card, Sample, by_class
from bench.errors import UsageError
from bench.plan.held_back import hold_back
from bench.plan.mixing import mix
from bench.plan.task import IndexedDataset, Task
from bench.registry import did_you_mean
from bench.setting import NOISY, SETTINGS, is_each
from bench.setting import find as find_setting
from bench.setting import known as setting_of
from bench.words import counted


def check(
    cards: Iterable[Card], settings: Sequence[str], classes: Sequence[str], splits: Sequence[str], shots: int | None
) -> None:
    """Refuse what cannot be run, from the cards alone, before any dataset is read.

    Raises:
        UsageError: unknown setting or split; a dataset that is a source of textures; `--classes`, `--splits` or
            `--shots` where they mean nothing.
    """
    for setting in settings:
        if find_setting(setting) is None:
            known = [*SETTINGS, NOISY]
            raise UsageError(f"unknown setting '{setting}'.{did_you_mean(setting, known)} Known: {', '.join(known)}")
    few = [setting for setting in settings if setting_of(setting).few]
    if few and shots is None:
        raise UsageError(f"--setting {few[0]}: how many training images a class? Expected --shots K, for example 4")
    if not few and shots is not None:
        raise UsageError(
            f"--shots {shots}: setting {', '.join(settings)} has none. Expected --setting few-shot or few-shot-single"
        )
    for card in cards:
        if card.kind == "auxiliary":
            raise UsageError(
                f"{card.name} is a source of textures for methods that paint defects, not trained or tested on by "
                f"itself. Expected another dataset, and this one as --data-root {card.name}=DIR"
            )
        for setting in settings:
            if card.kind == "semantic" and not is_each(setting):
                _check_halves(card, setting, classes, splits)
            elif splits:
                raise UsageError(
                    f"--splits {','.join(splits)}: {card.name} has none in setting {setting}. "
                    "Expected a semantic dataset in setting multi or few-shot; --classes chooses classes"
                )


def _check_halves(card: Card, setting: str, classes: Sequence[str], splits: Sequence[str]) -> None:
    if not card.splits:
        raise UsageError(f"{card.name} has no half-splits for setting {setting}. Expected --setting {_each(setting)}")
    if classes:
        raise UsageError(
            f"--classes {','.join(classes)}: in setting {setting} the half-splits of {card.name} say which classes are "
            f"normal. Expected --splits {','.join(card.splits)} or some of them, or --setting {_each(setting)}"
        )
    for split in splits:
        if split not in card.splits:
            raise UsageError(
                f"{card.name} has no split '{split}'.{did_you_mean(split, card.splits)} Known: {', '.join(card.splits)}"
            )


def _each(name: str) -> str:
    """Return the setting of a model a class that is like another one in all else."""
    return next(one.name for one in SETTINGS.values() if one.each and one.few == setting_of(name).few)


def tasks(
    source: IndexedDataset,
    setting: str,
    splits: Collection[str] = (),
    shots: int | None = None,
    seed: int = 0,
    share: float | None = None,
) -> list[Task]:
    """Return the tasks that a setting makes of a dataset, one a model, in the order of its classes or splits.

    Args:
        source: the dataset, as `bench.plan.task.read` gives it.
        setting: as `check` lets it through, with `splits` and `shots`.
        splits: half-splits asked for; empty for all.
        shots: training images a class; None for all that there are.
        seed: chooses training images where `shots`, or anomalous ones, are asked for; without effect otherwise.
        share: of the training images (of the shots, where there are), held back for thresholds; None for none.

    Raises:
        UsageError: a class has fewer than `shots` training images, or too few to hold some back, or too few anomalous
            ones.
    """
    card = source.dataset.card
    parts: dict[str, tuple[str, ...]]
    if is_each(setting):
        parts = {cls: (cls,) for cls in source.classes}
        known = source.classes_known
    elif card.kind == "semantic":
        parts = {split: normal for split, normal in card.splits.items() if not splits or split in splits}
        known = len(card.splits)
    else:
        parts, known = {"": source.classes}, 1
    return [_task(source, setting, part, normal, known, shots, seed, share) for part, normal in parts.items()]


def _task(
    source: IndexedDataset,
    setting: str,
    part: str,
    normal: tuple[str, ...],
    known: int,
    shots: int | None,
    seed: int,
    share: float | None,
) -> Task:
    train = [sample for sample in source.samples if sample.split == "train" and sample.cls in normal]
    test = [sample for sample in source.samples if sample.split == "test"]
    if shots is not None:
        train = choose(train, shots, seed)
    semantic = source.dataset.card.kind == "semantic"
    if semantic:
        train = [replace(sample, cls=part, label=0, defect="good") for sample in train]
        test = [_judged(sample, part, normal) for sample in test]
    else:
        test = [sample for sample in test if sample.cls in normal]
    held: list[Sample] = []
    if share is not None:
        # a semantic part is one class by now
        own = [] if semantic else [sample for sample in source.validation if sample.cls in normal]
        normal_ones, held = hold_back([sample for sample in train if not sample.label], own, share)
        train = [*normal_ones, *(sample for sample in train if sample.label)]
    mixed = setting_of(setting)
    if mixed.rate is not None:
        train, test = mix(train, test, mixed.rate, seed, overlap=mixed.overlap)
    return Task(
        name=source.name,
        dataset=source.dataset,
        setting=setting,
        classes=(part,) if semantic else normal,
        train=tuple(train),
        test=tuple(test),
        hashes=source.hashes,
        classes_known=source.classes_known,
        part=part,
        parts_known=known,
        normal=normal if semantic else (),
        shots=shots,
        calibration=tuple(held),
        calibration_share=share,
    )


def _judged(sample: Sample, part: str, normal: Sequence[str]) -> Sample:
    """Return a semantic test image as the part sees it: its class is the defect, unless it is a normal one."""
    label = int(sample.cls not in normal)
    return replace(sample, cls=part, label=label, defect=sample.cls if label else "good")


def choose(samples: Sequence[Sample], shots: int, seed: int) -> list[Sample]:
    """Return `shots` images of each class, in their order; the same ones on every machine.

    Images are ranked by the SHA-256 of seed and id. So the choice in one class does not depend on the other classes,
    and fewer shots are a part of more.

    Raises:
        UsageError: a class has fewer than `shots` images.
    """
    chosen: set[str] = set()
    for cls, found in by_class(samples).items():
        if len(found) < shots:
            raise UsageError(
                f"--shots {shots}: class '{cls}' has {counted(len(found), 'training image')}. Expected no more shots"
            )
        ranked = sorted(found, key=lambda sample: hashlib.sha256(f"{seed}\t{sample.id}".encode()).digest())
        chosen.update(sample.id for sample in ranked[:shots])
    return [sample for sample in samples if sample.id in chosen]
