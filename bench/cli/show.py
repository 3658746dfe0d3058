"""`bench show`: a method's configuration and cost, or a dataset's card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.errors import UsageError
from bench.registry import DATASETS, METHODS, did_you_mean

if TYPE_CHECKING:
    from bench.api import Card, Method

EPILOG = """\b
Examples:
  bench show dinomaly
  bench show dinomaly --set dinomaly.encoder=vit_small_patch14_reg4_dinov2.lvd142m
  bench show mvtec --json
"""

COUNTED = {"train": "train", "val": "validation", "good": "good", "bad": "anomalous"}
"""Fields of bench.api.Counts -> headings."""


@click.command(epilog=EPILOG)
@click.argument("name")
@click.option("--set", "pairs", multiple=True, metavar="METHOD.KEY=VALUE", help="Change a setting (methods only).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show(name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Show NAME: a method's settings with the source of each default, its parameters and MACs, or a dataset's card.

    Costs are counted on the meta device: no weights are needed.
    """
    if name in METHODS.targets:
        facts = _method(name, pairs)
        _print_json(facts) if as_json else _print_method(facts)
    elif name in DATASETS.targets:
        if pairs:
            raise UsageError(f"--set changes settings of methods; {name} is a dataset")
        card = asdict(DATASETS.load(name).card)
        _print_json(card) if as_json else _print_card(card)
    else:
        known = [*METHODS.targets, *DATASETS.targets]
        raise UsageError(f"no method or dataset '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}")


def _method(name: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    from bench.config import configure, parse_set
    from bench.run.complexity import complexity

    kind = METHODS.load(name)
    given = parse_set(pairs, [name]).get(name, {})
    config = configure(kind, "", given, None)
    method = kind(config)
    request = method.encoder()
    settings = {}
    for key, field in kind.Config.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        settings[key] = {
            "value": config.model_dump(mode="json")[key],
            "default": field.get_default(),
            "source": extra.get("source"),
            "help": field.description,
        }
    return {
        "name": name,
        "title": METHODS.summary(name),
        "encoder": asdict(request) if request is not None else None,
        "needs": sorted(kind.needs),
        "settings": settings,
        "dataset_overrides": {dataset: dict(values) for dataset, values in kind.overrides.items()},
        "steps": _lengths(kind, given),
        "paper_protocol": asdict(kind.paper),
        "semantic_paper_protocol": asdict(kind.semantic_paper) if kind.semantic_paper else None,
        "cost": asdict(complexity(method)),
    }


def _lengths(kind: type[Method], given: Mapping[str, Any]) -> dict[str, int]:
    """Return the training iterations of one model for all classes, by dataset; without those of unknown size."""
    from bench.config import configure

    # those of bench itself: a plug-in that nobody named is not imported
    cards = [DATASETS.load(name).card for name in DATASETS.builtin]
    images = {card.name: card.totals.train if card.totals else _train(card) for card in cards if not card.splits}
    return {name: kind(configure(kind, name, given, None)).steps(count) for name, count in images.items() if count}


def _train(card: Card) -> int:
    return sum(counts.train for counts in card.counts.values())


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, indent=1, default=str))


def _print_method(facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from bench.cli.terminal import console

    out = console()
    out.print(Text.assemble((facts["name"], "bold"), "  ", facts["title"]), soft_wrap=True)
    encoder, cost = facts["encoder"], facts["cost"]
    looks = "none"
    if encoder is not None:
        looks = f"{encoder['name']}, blocks {encoder['blocks']}, input {encoder['input_size']} px, "
        looks += f"{encoder['position']} positions"
    lines = [
        f"encoder   {looks}",
        f"cost      {cost['params_total']:,} parameters, {cost['params_trainable']:,} trainable, "
        f"{cost['macs'] / 1e9:.2f} GMAC an image, {cost['macs_with_products'] / 1e9:.2f} with attention and search",
    ]
    if len(set(facts["steps"].values())) > 1:
        of = ", ".join(f"{name} {steps:,}" for name, steps in facts["steps"].items())
        lines.append(f"steps     of one model for all classes: {of}")
    for dataset, values in facts["dataset_overrides"].items():
        changes = ", ".join(f"{key} = {value}" for key, value in values.items())
        lines.append(f"on {dataset}   {changes}")
    lines.append(f"protocol paper   {_protocol(facts['paper_protocol'])}")
    if facts["semantic_paper_protocol"]:
        lines.append(f"  on semantic sets   {_protocol(facts['semantic_paper_protocol'])}")
    for line in lines:
        out.print(Text(line), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "source", "meaning"):
        table.add_column(column, overflow="fold")
    for key, setting in facts["settings"].items():
        value = setting["value"]
        # spelt as --set takes it: null, not None
        cells = (
            key,
            value if isinstance(value, str) else json.dumps(value),
            setting["source"] or "",
            setting["help"] or "",
        )
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table)


def _protocol(facts: dict[str, Any]) -> str:
    """Return in words what a paper's protocol looks at."""
    crop = "the whole image" if facts["crop"] == 1 else f"the middle {facts['crop']:.1%} of each side"
    return f"{crop}, maps {facts['eval_size']}x{facts['eval_size']}, masks by the rule {facts['mask_rule']}"


def _print_card(card: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from bench.cli.terminal import console

    out = console()
    facts = f"  {card['title']} ({card['kind']}, masks: {card['masks']})"
    out.print(Text.assemble((card["name"], "bold"), facts), soft_wrap=True)
    for key in ("licence", "citation", "source"):
        out.print(Text(f"{key:9} {card[key]}"), soft_wrap=True)
    for note in card["notes"]:
        out.print(Text(f"note      {note}"), soft_wrap=True)
    for split, normal in card["splits"].items():
        out.print(Text(f"split {split}   normal: {', '.join(normal)}"), soft_wrap=True)
    if card["counts"]:
        # validation images are in few sets, and a semantic class is anomalous in some splits and normal in others
        keys = [key for key in COUNTED if any(counts[key] for counts in card["counts"].values())]
        headings = COUNTED if "bad" in keys else {**COUNTED, "good": "test"}
        table = Table(box=None, pad_edge=False)
        table.add_column("class")
        for key in keys:
            table.add_column(headings[key], justify="right")
        for cls, counts in card["counts"].items():
            table.add_row(Text(cls), *(f"{counts[key]:,}" for key in keys))
        sums = (sum(counts[key] for counts in card["counts"].values()) for key in keys)
        table.add_row("[bold]all", *(f"[bold]{total:,}" for total in sums))
        out.print(table)
    elif total := card["totals"]:
        line = f"counts    {total['train']:,} training images, {total['good']:,} normal, {total['bad']:,} anomalous"
        out.print(Text(f"{line} test images"), soft_wrap=True)
