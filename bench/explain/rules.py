"""Rules by which a number was computed, and those that two recipes do not share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from bench.errors import UsageError
from bench.protocol import LabelRule, MaskRule, Protocol
from bench.published.read import Computed
from bench.store.explained import NAMES

OWN_SCORE = "the method's own"


@dataclass(frozen=True, slots=True)
class Rules:
    """How scores are computed from maps; see `bench.protocol.Protocol`."""

    crop: float
    mask_rule: MaskRule
    label_rule: LabelRule
    eval_size: int
    image_score: str = OWN_SCORE
    """A rule of `bench.metrics.image_scores` by which the map gives the image's score, or what the record holds."""

    @classmethod
    def of(cls, protocol: Protocol) -> Rules:
        """Return those of a record's protocol, with the scores that the record holds.

        Raises:
            UsageError: it scores images at their own sizes, as no published table here does.
        """
        if protocol.own_size:
            raise UsageError(
                f"protocol {protocol.name} scores images at their own sizes, and rules are compared at one size. "
                "Expected a record of the protocol common or paper"
            )
        return cls(protocol.crop, protocol.mask_rule, protocol.label_rule, protocol.eval_size)

    def protocol(self) -> Protocol:
        """Return the protocol that masks are reduced by."""
        return Protocol("explained", 1, self.crop, self.eval_size, self.mask_rule, self.label_rule)


def published(name: str, computed: Computed) -> tuple[Rules, str]:
    """Return the rules under a protocol tag of the published numbers, and what else is different there.

    Raises:
        UsageError: they are not known.
    """
    given: dict[str, Any] = dict(computed.rules)
    if not given:
        raise UsageError(f"how the numbers of {name} were computed is not known: {computed.summary}")
    return Rules(**{key: given[key] for key in (field.name for field in fields(Rules)) if key in given}), str(
        given.get("beside", "")
    )


def changed(ours: Rules, theirs: Rules, metric: str, variant: str) -> dict[str, tuple[str, str]]:
    """Return the rules on which two recipes differ and that can move a metric: rule -> (ours, theirs), in words."""
    pixel = metric.startswith("pixel/")
    relevant = ["crop", "mask_rule"] if pixel else ["label_rule", "image_score"]
    if not pixel and "mask" in (ours.label_rule, theirs.label_rule):
        relevant += ["mask_rule"]
    if not pixel and theirs.image_score != OWN_SCORE:
        relevant += ["crop"]
    found = {
        rule: (_said(rule, getattr(ours, rule)), _said(rule, getattr(theirs, rule)))
        for rule in NAMES
        if rule in relevant and getattr(ours, rule) != getattr(theirs, rule)
    }
    return found | ({"metric": (metric, variant)} if variant not in ("", metric) else {})


def _said(rule: str, value: Any) -> str:
    if rule == "crop":
        return "whole image" if value == 1 else f"centre {value:.4g}"
    return str(value)


def mixed(ours: Rules, theirs: Rules, some: Collection[str]) -> Rules:
    """Return our rules with some of theirs."""
    return Rules(**{field.name: getattr(theirs if field.name in some else ours, field.name) for field in fields(Rules)})
