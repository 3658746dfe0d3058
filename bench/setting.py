"""Settings: how many models a dataset is worth, and on how many images each is trained. Loads no torch.

`bench.plan.settings` makes the tasks of each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.words import counted


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination of the two choices."""

    name: str
    each: bool
    """A model a class, in place of one for all classes (of a semantic set: one a half-split)."""
    few: bool
    """From k training images a class, in place of all."""
    rate: float | None = None
    """Share of each class's training images that are anomalous ones, which nobody is told; None for clean training."""
    overlap: bool = False
    """Whether these stay among the test images, too."""

    @property
    def chooses(self) -> bool:
        """Whether a cell's seed chooses its training images."""
        return self.few or self.rate is not None

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return the names by which a method may have values for it, the general one first: see `Method.overrides`.

        Papers that train a model a class on few images train it as they do on all of them. Who trains on noisy images
        does not know it.
        """
        if self.rate is not None:
            return ("multi",)
        return ("single", self.name) if self.each and self.few else (self.name,)

    def title(self, shots: int | None = None) -> str:
        """Return it in words: `one model a class, 4 training images each`."""
        models = "one model a class" if self.each else "one model for all classes"
        if self.rate is not None:
            where = "which are tested, too" if self.overlap else "none of them tested"
            return f"{models}, {100 * self.rate:g} % of the training images anomalous, {where}"
        if shots is None:
            return models
        return f"{models}, {counted(shots, 'training image')} {'each' if self.each else 'a class'}"


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("multi", each=False, few=False),
        Setting("single", each=True, few=False),
        Setting("few-shot", each=False, few=True),
        Setting("few-shot-single", each=True, few=True),
    )
}


NOISY = "noisy"
"""What a user asks for with a rate; records name both, `noisy-0.1` or `noisy-0.1-overlap`."""
_NOISY = re.compile(rf"{NOISY}-(0\.\d+)(-overlap)?")


def noisy(rate: float, overlap: bool) -> str:
    """Return the name of the setting with so large a share of anomalous training images."""
    return f"{NOISY}-{rate:g}{'-overlap' if overlap else ''}"


def find(name: str) -> Setting | None:
    """Return the setting that a record names; None of another program's own words."""
    if name in SETTINGS:
        return SETTINGS[name]
    parts = _NOISY.fullmatch(name)
    if parts is None or not float(parts[1]):
        return None
    return Setting(name, each=False, few=False, rate=float(parts[1]), overlap=parts[2] is not None)


def known(name: str) -> Setting:
    """Return the setting of a name that was checked. Raises KeyError for any other."""
    found = find(name)
    if found is None:
        raise KeyError(name)
    return found


def is_each(name: str) -> bool:
    """Return whether a setting, as a record names it, has a model a class."""
    found = find(name)
    return found is not None and found.each
