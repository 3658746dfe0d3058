"""The challenge on Real-IAD Variety: its subset, objects of five views in folders of their own (2025).

    Train/<class>/<object>/{0..4}.png                       normal
    Test_A/<class>/<object>/{0..4}.png, and Test_B/ likewise
    standard_A/ground_truth.csv, standard_A/masks/<class>/<object>/{0..4}_mask.png

`ground_truth.csv` has the columns `group_folder` (`<class>/<object>`) and `label` (0 or 1) of each object. The answers
to a round may also lie in `standard`, beside the images, or in the root where there is one round alone. A round whose
answers are not there is unlabelled: scored, never counted.

A label is an object's, and so that of each of its views; the mask of a view that does not show the defect is black.
Masks are smaller (448 pixels) than images (3,589), and stand for the whole of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.api import Finding, Sample
from bench.errors import DatasetError
from bench.loading.tables import CsvRow, TableError, read_table

from ._base import FileDataset
from ._listed import ListedImage, ListReader, checked_class, checked_path
from ._listing import contents, is_file, is_folder, subfolders, trouble_of
from .realiad_variety import RealIADVariety

_TRAIN, _ROUNDS = "Train", ("Test_A", "Test_B")
_TABLE, _OBJECT, _LABEL = "ground_truth.csv", "group_folder", "label"
_DEFECT = "anomaly"


@dataclass(frozen=True, slots=True)
class _Answers:
    """What is known of a round's objects."""

    folder: Path
    labels: dict[tuple[str, str], tuple[int, str]]
    """(class, object) -> label, and the line that says so."""


class RealIADChallenge(FileDataset):
    """The challenge's subset as distributed; the root is the folder with Train and Test_A."""

    card = replace(
        RealIADVariety.card,
        name="realiad_challenge",
        title="Real-IAD Variety, challenge",
        notes=(
            "50 classes of 20 training objects. Round A tests 750 objects of them, round B 50 more classes too.",
            "Every object has five views. A label is an object's and so that of each view; masks say where it is seen.",
            "A round whose answers (ground_truth.csv and masks/) are not there is unlabelled.",
            "Classes that are only tested (the zero-shot ones of round B) are left out: there is nothing to train on.",
        ),
        source="Ask its organizers for it; unpack Train and Test_A into one folder, and standard_A beside them.",
    )
    aliases = ("realiad_challenge", "real-iad_challenge", "realiad_variety_challenge")

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds the training objects and a round of test objects."""
        return is_folder(folder / _TRAIN) and any(is_folder(folder / name) for name in _ROUNDS)

    @classmethod
    def layout(cls) -> str:
        """Return in words which files are expected."""
        return f"{_TRAIN}/<class>/<object>/0.png to 4.png, {_ROUNDS[0]}/ likewise, and standard_A/{_TABLE} and masks/"

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the files; never raises over their content."""
        samples: list[Sample] = []
        findings: list[Finding] = []
        rounds = [name for name in _ROUNDS if is_folder(self.root / name)]
        answers: dict[str, _Answers] = {}
        for name in rounds:
            if (folder := self._answers_of(name, len(rounds))) is not None:
                answers[name] = _read(folder, self.root, findings)
        for home in self._folders(self.root / _TRAIN, findings):
            entries = [*self._trained(home, findings)]
            for name in rounds:
                entries += self._tested(name, home.name, answers.get(name), findings)
            one = ListReader(home.name, self.root, "pixel").read(entries)
            samples += [replace(sample, scaled_masks=True) if sample.masks else sample for sample in one.samples]
            # without answers nothing can be scored, which is no defect of the files
            findings += [found for found in one.findings if answers or found.where != home.name]
            samples += [one for name in rounds if name not in answers for one in self._unlabelled(name, home.name)]
        return tuple(samples), tuple(findings)

    def _answers_of(self, name: str, rounds: int) -> Path | None:
        places = [f"standard_{name[-1]}", name, *(["standard", "."] if rounds == 1 else [])]
        return next((self.root / place for place in places if is_file(self.root / place / _TABLE)), None)

    def _folders(self, above: Path, findings: list[Finding]) -> Iterator[Path]:
        """Yield the folders directly in one; what may not be looked into is found."""
        if trouble := trouble_of(above):
            where = above.relative_to(self.root).as_posix()
            text = f"{above}: cannot be looked into ({trouble}). Expected a readable folder"
            findings.append(Finding("", "unreadable", where, text))
            return
        for path in sorted(subfolders(above)):
            try:
                checked_class(path.name)
            except DatasetError as error:
                findings.append(Finding("", "name", path.name, str(error)))
            else:
                yield path

    def _trained(self, home: Path, findings: list[Finding]) -> Iterator[ListedImage]:
        for one in self._folders(home, findings):
            for view in contents(one).images:
                yield self._entry(view, f"{_TRAIN}/{home.name}/{one.name}", "train", "good")

    def _tested(self, name: str, cls: str, answers: _Answers | None, findings: list[Finding]) -> Iterator[ListedImage]:
        """Yield the views of a class's objects of which the label is known."""
        if answers is None:
            return
        told = {one: found for (of, one), found in answers.labels.items() if of == cls}
        there = {path.name: path for path in self._folders(self.root / name / cls, findings)} if told else {}
        for one in sorted(there.keys() - told.keys()):
            text = f"{name}/{cls}/{one}: no line of {_TABLE} names this object. Expected {_OBJECT} {cls}/{one}"
            findings.append(Finding(cls, "layout", f"{name}/{cls}/{one}", text))
        for one, (label, where) in told.items():
            views = contents(there[one]).images if one in there else ()
            if not views:
                text = f"{where}: object {cls}/{one} has no image. Expected {self.root / name / cls / one}/0.png"
                findings.append(Finding(cls, "layout", where, text))
                continue
            masks = {path.stem: path for path in contents(answers.folder / "masks" / cls / one).images} if label else {}
            for view in views:
                mask = masks.get(f"{view.stem}_mask", answers.folder / "masks" / cls / one / f"{view.stem}_mask.png")
                named = mask.relative_to(self.root).as_posix() if label else ""
                yield self._entry(view, where, "test", _DEFECT if label else "good", named)

    def _entry(self, view: Path, where: str, split: str, defect: str, mask: str = "") -> ListedImage:
        image = view.relative_to(self.root)
        part, cls, one = image.parts[0], image.parts[1], image.parts[2]
        name = f"{part}/{one}/{view.stem}"
        return ListedImage(where, split, defect, image.as_posix(), mask, f"{cls}/{part}/{one}", name)  # type: ignore[arg-type]

    def _unlabelled(self, name: str, cls: str) -> Iterator[Sample]:
        for one in subfolders(self.root / name / cls):
            for view in contents(one).images:
                unit = f"{cls}/{name}/{one.name}"
                yield Sample(
                    f"{cls}/unlabelled/{name}/{one.name}/{view.stem}", cls, "unlabelled", None, "", view, unit=unit
                )


def _read(folder: Path, root: Path, findings: list[Finding]) -> _Answers:
    """Return a round's answers; lines that cannot be used are found."""
    path = folder / _TABLE
    source = path.relative_to(root).as_posix()
    labels: dict[tuple[str, str], tuple[int, str]] = {}
    try:
        for row in read_table(path, (_OBJECT, _LABEL)):
            where = f"{source}:{row.line}"
            try:
                one, label = _line(row)
                if one in labels:
                    raise DatasetError(f"{'/'.join(one)} was named in {labels[one][1]} already. Expected it once")
                labels[one] = label, where
            except DatasetError as error:
                findings.append(Finding("", "layout", where, f"{where}: {error}"))
    except TableError as error:
        findings.append(Finding("", "layout", source, f"{source}: {error}"))
    return _Answers(folder, labels)


def _line(row: CsvRow) -> tuple[tuple[str, str], int]:
    """Return (class, object) and label of a line. Raises DatasetError for one that cannot be used."""
    if row.fault:
        raise DatasetError(row.fault)
    named, label = row.cells[_OBJECT].strip().strip("/"), row.cells[_LABEL].strip()
    parts = checked_path(named, _OBJECT).parts
    if len(parts) != 2:
        raise DatasetError(f"{_OBJECT} {named!a}. Expected <class>/<object>")
    if label not in ("0", "1"):
        raise DatasetError(f"{_LABEL} {label!a}. Expected 0 of a normal object or 1 of an anomalous one")
    return (checked_class(parts[0]), parts[1]), int(label)
