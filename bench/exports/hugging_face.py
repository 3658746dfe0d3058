"""Export to Hugging Face: the model index of a model card, by which the hub shows evaluation results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from huggingface_hub.repocard_data import EvalResult, ModelCardData

from bench.exports.flat import flat
from bench.metrics.ids import column
from bench.registry import DATASETS
from bench.store.record import Record


def model_card(records: Mapping[Path, Record], model: str) -> str:
    """Return the head of a model card (YAML between dashes) with one result a metric, means over seeds, in percent.

    Args:
        records: file -> finished record.
        model: its name, as the hub shows it.

    Raises:
        UsageError: a record failed.
    """
    values: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for record in records.values():
        flat(record)  # refuses what failed
        where = (record.cell.dataset, record.cell.part, f"{record.cell.setting}, protocol {record.protocol.name}")
        for metric, value in record.mean.items():
            if value is not None:
                values[(*where, metric)].append(value)
    results = [
        EvalResult(
            task_type="image-anomaly-detection",
            task_name="Unsupervised anomaly detection",
            dataset_type=dataset,
            dataset_name=DATASETS.load(dataset).card.title if dataset in DATASETS.targets else dataset,
            dataset_config=part or None,
            metric_type=metric,
            metric_name=f"{column(metric).heading} ({how}; mean of {len(found)} seeds)"
            if len(found) > 1
            else f"{column(metric).heading} ({how})",
            metric_value=round(100 * fmean(found), 2) if not column(metric).unit else fmean(found),
        )
        for (dataset, part, how, metric), found in values.items()
    ]
    card = ModelCardData(model_name=model, eval_results=results, tags=["anomaly-detection"])
    return f"---\n{card.to_yaml()}\n---\n"
