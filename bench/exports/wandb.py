"""Export to Weights & Biases: a run a record, grouped by what its seeds share."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UsageError
from bench.exports.flat import flat
from bench.store.record import Record


def export(records: Mapping[Path, Record], project: str, offline: bool) -> list[str]:
    """Write records as runs and return their ids, made of the fingerprint, so that a second export writes the same run.

    Args:
        records: file -> finished record.
        project: its name.
        offline: write below ./wandb, for `wandb sync`.

    Raises:
        UsageError: wandb is not installed, or a record failed.
    """
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError as error:
        raise UsageError("Weights & Biases is not installed. Expected it: pip install wandb") from error
    ids = []
    for record in records.values():
        one = flat(record)
        name = f"{record.cell.fingerprint}-s{record.cell.seed}"
        run = wandb.init(
            project=project,
            id=name,
            name=one.name,
            group=one.group,
            job_type=record.cell.method,
            config={**one.params, **one.tags},
            mode="offline" if offline else "online",
            resume="allow",
        )
        run.summary.update(dict(one.metrics))
        run.finish()
        ids.append(name)
    return ids
