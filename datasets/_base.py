"""Base of datasets made of files: found under a data root, and read in spite of defects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bench.api import Dataset, Finding, Sample
from bench.errors import DatasetError

from ._listing import contents, is_folder, printable, subfolders

_DEPTH = 3
"""How many folders deep the usual sub-folders are looked for."""
_NEEDED = {
    ("train", 0): "no image. Expected normal images to train on",
    ("test", 0): "no image. Expected normal test images, which the anomalous ones are ranked against",
    ("test", 1): "no anomalous image. Expected some to test on",
}


class FileDataset(Dataset):
    """Base of the datasets whose images are files of their own; a subclass gives its card, `is_at` and `inspect`."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Usual names of the dataset's folders, in lower case, looked for inside the data root; the preferred one first."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.normal_masks: Mapping[str, tuple[Path, ...]] = {}
        """Sample id -> masks of a normal image, which no run reads; `bench data verify` asks what they mark. Filled by
        `inspect`."""

    @classmethod
    @abstractmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder itself, not one inside it, holds the dataset or some of its classes."""

    @classmethod
    @abstractmethod
    def layout(cls) -> str:
        """Return in words what the dataset's folder must hold, for messages."""

    @abstractmethod
    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the files; never raises over their content."""

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return `data_root` or its usual sub-folder, whichever holds the dataset; see `Dataset.locate`."""
        card = cls.card
        if data_root is None:
            raise DatasetError(
                f"{card.name}: no data root given. Expected {cls.layout()}. Give it with --data-root DIR "
                f"(bench run) or --root DIR (bench data). {card.source}"
            )
        if not is_folder(data_root):
            raise DatasetError(f"{card.name}: no folder {data_root}. Expected {cls.layout()}. {card.source}")
        for candidate in _candidates(data_root, cls.aliases):
            if cls.is_at(candidate):
                return candidate
        if trouble := contents(data_root).trouble:
            raise DatasetError(f"{card.name}: {data_root} cannot be looked into ({trouble}). Expected {cls.layout()}.")
        where = f", there or in a sub-folder {' or '.join(cls.aliases)}" if cls.aliases else ""
        raise DatasetError(
            f"{card.name} is not at {data_root}: found {listing(subfolders(data_root))}. "
            f"Expected {cls.layout()}{where}.{cls.hint(data_root)} {card.source}"
        )

    @classmethod
    def hint(cls, data_root: Path) -> str:
        """Return one more sentence for a data root where the dataset was not found, or nothing."""
        return ""

    def samples(self) -> tuple[Sample, ...]:
        """Return every sample; see `Dataset.samples`. Where several things are wrong the first is told."""
        if not is_folder(self.root):
            raise DatasetError(f"{self.card.name}: no folder {self.root}. Expected {self.layout()}.")
        return self.sound(*self.inspect())

    def sound(self, samples: tuple[Sample, ...], findings: Sequence[Finding]) -> tuple[Sample, ...]:
        """Return the samples unless something stops a run, and keep what does not as `remarks`.

        Raises:
            DatasetError: the first finding that stops a run.
        """
        defects = [finding for finding in findings if finding.stops]
        if defects:
            more = f" (and {len(defects) - 1} more)" if len(defects) > 1 else ""
            raise DatasetError(
                f"{self.card.name} at {self.root}: {defects[0].text}{more}. "
                f"List all with: bench data verify {self.card.name} --root {self.root}"
            )
        self.remarks = tuple(findings)
        return samples


def lacking(samples: Iterable[Sample]) -> dict[tuple[str, int], str]:
    """Return what a class cannot be trained or scored without and does not have: (split, label) -> what to say."""
    seen = {(sample.split, sample.label) for sample in samples}
    return {need: text for need, text in _NEEDED.items() if need not in seen}


def listing(folders: Sequence[Path]) -> str:
    """Name the first of some folders, for messages."""
    names = [printable(Path(path.name)) for path in folders]
    return "no folders" if not names else "folders " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _candidates(folder: Path, aliases: Sequence[str], depth: int = _DEPTH) -> Iterator[Path]:
    yield folder
    if depth:
        inside = [path for path in subfolders(folder) if path.name.lower() in aliases]
        for path in sorted(inside, key=lambda path: aliases.index(path.name.lower())):
            yield from _candidates(path, aliases, depth - 1)
