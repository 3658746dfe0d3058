"""Export to MLflow: a run a record, with its parameters, metrics, tags and the record's file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.exports.flat import flat
from bench.store.record import Record


def export(records: Mapping[Path, Record], uri: str | None, experiment: str) -> list[str]:
    """Write records as runs and return their ids; a record that is there already, by its fingerprint, is left alone.

    Args:
        records: file -> finished record.
        uri: of the tracking server or a folder; None for what MLflow itself is set to.
        experiment: its name; made where there is none.

    Raises:
        UsageError: MLflow is not installed, or a record failed.
    """
    try:
        return _export(records, client(uri), experiment)
    except UsageError:
        raise
    except Exception as error:  # MLflow's and its transport's own kinds; all are about the server or the folder
        raise UsageError(f"MLflow refused ({type(error).__name__}): {error}") from error


def _export(records: Mapping[Path, Record], tracking: Any, experiment: str) -> list[str]:
    found = tracking.get_experiment_by_name(experiment)
    where = found.experiment_id if found is not None else tracking.create_experiment(experiment)
    ids = []
    for path, record in records.items():
        one = flat(record)
        wanted = f"tags.`bench/fingerprint` = '{record.cell.fingerprint}' and params.seed = '{record.cell.seed}'"
        if there := tracking.search_runs([where], filter_string=wanted, max_results=1):
            ids.append(str(there[0].info.run_id))
            continue
        millis = int(one.when.timestamp() * 1000)
        run = tracking.create_run(where, start_time=millis, run_name=one.name, tags=dict(one.tags))
        for key, value in one.params.items():
            tracking.log_param(run.info.run_id, key, value)
        for key, number in one.metrics.items():
            tracking.log_metric(run.info.run_id, key, number, timestamp=millis)
        tracking.log_artifact(run.info.run_id, str(path))
        tracking.set_terminated(run.info.run_id, end_time=millis)
        ids.append(str(run.info.run_id))
    return ids


def client(uri: str | None) -> Any:
    """Return MLflow's client. Raises UsageError where it is not installed."""
    try:
        return importlib.import_module("mlflow.tracking").MlflowClient(tracking_uri=uri)
    except ModuleNotFoundError as error:
        raise UsageError("MLflow is not installed. Expected it: pip install mlflow-skinny, or mlflow") from error
