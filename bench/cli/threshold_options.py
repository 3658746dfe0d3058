"""Options that choose a threshold of a record, as several commands take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bench.prediction.threshold import Threshold


def threshold_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--rule` and `--far`."""
    for option in (
        click.option(
            "--far", metavar="SHARE", type=float, help="False alarms: share of normal images above it, at most."
        ),
        click.option(
            "--rule",
            metavar="RULE",
            default="",
            help="q0.95, q0.99 or q0.999 (quantiles of the normal images held back), max or mean+3sd.",
        ),
    ):
        command = option(command)
    return command


def facts_of(threshold: Threshold) -> dict[str, Any]:
    """Return a threshold as JSON has it."""
    return {
        "rule": threshold.rule,
        "class": threshold.cls,
        "images": threshold.images,
        "expected_false_alarms": threshold.expected,
        "false_alarms": _share(threshold.false_alarms),
        "found": _share(threshold.found),
    }


def _share(share: Any) -> dict[str, Any] | None:
    return None if share is None else {"count": share.count, "of": share.of, "interval": share.interval}
