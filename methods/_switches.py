"""Refusal of settings that another leaves without effect: no ablation row is silently the default's."""

from __future__ import annotations

from collections.abc import Sequence

from bench.api import Method
from bench.errors import UsageError


def refuse_idle(method: Method, keys: Sequence[str], where: str) -> None:
    """Refuse values that would do nothing.

    Args:
        method: as configured.
        keys: settings that do nothing there.
        where: the setting that makes them idle, as a message names it.

    Raises:
        UsageError: one of them is not at its default.
    """
    for key in keys:
        value, default = getattr(method.config, key), type(method.config).model_fields[key].default
        if value != default:
            raise UsageError(
                f"{method.name}.{key} = {value} has no effect with {where}. Expected one of the two left as it was. "
                f"See: bench show {method.name}"
            )
