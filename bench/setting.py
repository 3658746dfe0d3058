"""Settings: how many models a dataset is worth, and on how many images each is trained. Loads no torch.

`bench.plan.settings` makes the tasks of each.
"""

from __future__ import annotations

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

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return the names by which a method may have values for it, the general one first: see `Method.overrides`.

        Papers that train a model a class on few images train it as they do on all of them.
        """
        return ("single", self.name) if self.each and self.few else (self.name,)

    def title(self, shots: int | None = None) -> str:
        """Return it in words: `one model a class, 4 training images each`."""
        models = "one model a class" if self.each else "one model for all classes"
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


def is_each(name: str) -> bool:
    """Return whether a setting, as a record names it, has a model a class."""
    return name in SETTINGS and SETTINGS[name].each
