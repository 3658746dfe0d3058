"""Several datasets as one: `mvtec+visa` is one model over all their classes ("super-multi-class").

A class is called by its dataset, too (`mvtec/bottle`), so that no two are mistaken for each other. Scores are of each
class, of each dataset and over all classes. Datasets of defects go together; semantic ones, whose images are normal or
not only by a half-split, and sources of textures do not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from bench.api import Card, Counts, Dataset, Sample, SingleDefect
from bench.data_roots import data_root
from bench.errors import UsageError
from bench.registry import DATASETS

SIGN, INSIDE = "+", "/"


class Roots(dict[str, Any]):
    """The folder of each of the datasets that are combined; None where it is not given."""

    def __str__(self) -> str:
        """Return them as records name them: `mvtec=/data/mvtec:visa=/data/visa`."""
        return os.pathsep.join(f"{name}={root}" for name, root in self.items())


class Combined(Dataset):
    """Base of the combinations; `register` makes a class of each."""

    kinds: ClassVar[Mapping[str, type[Dataset]]] = {}
    """Name -> class of each dataset, in the order that they are named in."""

    def __init__(self, root: Any) -> None:
        roots = Roots({name: Path(root[name]) for name in self.kinds})
        super().__init__(Path(os.path.commonpath([path.absolute() for path in roots.values()])))
        self.roots = roots
        self._parts = {name: kind(roots[name]) for name, kind in self.kinds.items()}

    def __reduce__(self) -> Any:
        """Have workers make the class of the combination again."""
        return _again, (self.card.name, self.roots)

    @classmethod
    def locate(cls, data_root: Any) -> Any:
        """Return where each of the datasets is, below its own root or the one for all; raises as each of them."""
        given = data_root if isinstance(data_root, Mapping) else dict.fromkeys(cls.kinds, data_root)
        return Roots({name: kind.locate(given[name]) for name, kind in cls.kinds.items()})

    def samples(self) -> tuple[Sample, ...]:
        """Return every dataset's samples, its name before their class and id; see `Dataset.samples`."""
        found, self.remarks, self.notes = [], (), ()
        for name, part in self._parts.items():
            for one in part.samples():
                unit = f"{name}{INSIDE}{one.unit}" if one.unit else ""
                found.append(
                    replace(one, id=f"{name}{INSIDE}{one.id}", cls=f"{name}{INSIDE}{one.cls}", family="", unit=unit)
                )
            self.remarks += tuple(
                replace(remark, cls=f"{name}{INSIDE}{remark.cls}" if remark.cls else "") for remark in part.remarks
            )
            self.notes += tuple((f"{name}{INSIDE}{cls}", note) for cls, note in part.notes)
        if not self.card.classes:
            found.sort(key=lambda one: (one.cls, one.id))
        return tuple(found)

    def read_defects(self, sample: Sample) -> tuple[SingleDefect, ...] | None:
        """Return what the sample's own dataset says; see `Dataset.read_defects`."""
        name, _, cls = sample.cls.partition(INSIDE)
        return self._parts[name].read_defects(replace(sample, cls=cls, id=sample.id.removeprefix(f"{name}{INSIDE}")))


def names(name: str) -> tuple[str, ...]:
    """Return the datasets that a name combines; none where it is that of one dataset."""
    loaded = DATASETS.targets.get(name, "")
    if SIGN not in name or (loaded and not loaded.startswith(__name__)):
        return ()
    return tuple(name.split(SIGN))


def register(name: str) -> None:
    """Have the name of a combination stand for its datasets; that of a single dataset is left as it is.

    Raises:
        UsageError: a dataset that is not known, comes twice, or does not go with others.
    """
    found = names(name)
    if not found or name in DATASETS.targets:
        return
    if len({*found}) < len(found):
        raise UsageError(f"--datasets {name}: a dataset twice. Expected each once")
    kinds = {one: DATASETS.load(one) for one in found}
    for one, kind in kinds.items():
        if kind.card.kind != "industrial" or kind.read_image is not Dataset.read_image:
            what = "a source of textures" if kind.card.kind == "auxiliary" else "normal or not only by a half-split"
            raise UsageError(
                f"--datasets {name}: the images of {one} are {what}, which goes with no others. Expected datasets of "
                "defects, such as mvtec+visa"
            )
    made = type("Combined", (Combined,), {"kinds": kinds, "card": _card(name, kinds), "metrics": _shared(kinds)})
    DATASETS.put(name, f"{__name__}:Combined", made)


def roots(name: str, given: Sequence[str]) -> Path | Roots | None:
    """Return the data root of a dataset, or those of the datasets that a name combines; see `data_root`."""
    found = names(name)
    return Roots({one: data_root(one, given) for one in found}) if found else data_root(name, given)


def recorded(name: str, text: str) -> Path | Roots | None:
    """Return the roots that a record names, where all of them are still there."""
    if not names(name):
        return Path(text).absolute() if Path(text).is_dir() else None
    parts = dict(part.partition("=")[::2] for part in text.split(os.pathsep))
    there = {*parts} == {*names(name)} and all(Path(path).is_dir() for path in parts.values())
    return Roots({one: Path(path).absolute() for one, path in parts.items()}) if there else None


def title(name: str) -> str:
    """Return the titles of the datasets that a name combines: `MVTec AD + VisA`."""
    titles = (DATASETS.load(one).card.title if one in DATASETS.targets else one for one in names(name))
    return f" {SIGN} ".join(titles)


def groups(dataset: str, classes: Sequence[str]) -> dict[str, list[str]]:
    """Return the classes by dataset where several were combined: `mvtec` -> `mvtec/bottle`, ...; else nothing."""
    found: dict[str, list[str]] = {}
    for cls in classes if SIGN in dataset else ():
        part, inside, _ = cls.partition(INSIDE)
        if not inside or part not in dataset.split(SIGN):
            return {}
        found.setdefault(part, []).append(cls)
    return found


def _again(name: str, roots: Roots) -> Dataset:
    register(name)
    return DATASETS.load(name)(roots)  # type: ignore[arg-type]


def _shared(kinds: Mapping[str, type[Dataset]]) -> tuple[str, ...]:
    """Return what the owners of all of them measure beside the usual."""
    first, *others = kinds.values()
    return tuple(one for one in first.metrics if all(one in kind.metrics for kind in others))


def _card(name: str, kinds: Mapping[str, type[Dataset]]) -> Card:
    cards = {one: kind.card for one, kind in kinds.items()}
    counts: dict[str, Counts] = {
        f"{one}{INSIDE}{cls}": counts for one, card in cards.items() for cls, counts in card.counts.items()
    }
    every = all(card.classes for card in cards.values())
    masks = {card.masks for card in cards.values()}
    return Card(
        name=name,
        title=f" {SIGN} ".join(card.title for card in cards.values()),
        kind="industrial",
        classes=tuple(f"{one}{INSIDE}{cls}" for one, card in cards.items() for cls in card.classes) if every else (),
        counts=counts,
        masks=masks.pop() if len(masks) == 1 else "optional",
        licence="; ".join(dict.fromkeys(card.licence for card in cards.values())),
        citation=" ".join(card.citation for card in cards.values()),
        source=" ".join(card.source for card in cards.values()),
    )
