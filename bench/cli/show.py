"""`bench show`: a method's configuration and cost, a dataset's card, an encoder's shape, a record's scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.completing import completed
from bench.cli.derived import kept
from bench.cli.show_metric import facts_of, is_metric, print_metric
from bench.errors import UsageError
from bench.home import expanded
from bench.method import resolve
from bench.registry import DATASETS, METHODS, METRICS, did_you_mean
from bench.words import counted

if TYPE_CHECKING:
    from bench.api import Card, Method

EPILOG = """\b
Examples:
  bench show dinomaly
  bench show dinomaly --set dinomaly.encoder=vit_small_patch14_reg4_dinov2.lvd142m
  bench show mvtec --json
  bench show pixel/aupro@0.3
  bench show vit_base_patch14_reg4_dinov2.lvd142m
  bench show results/baselines/demo-dinomaly-multi-s0.json
"""

COUNTED = {"train": "train", "val": "validation", "good": "good", "bad": "anomalous", "unlabelled": "unlabelled"}
"""Fields of bench.api.Counts -> headings."""


@click.command(epilog=EPILOG)
@click.argument("name", shell_complete=completed("shown"))
@click.option("--set", "pairs", multiple=True, metavar="METHOD.KEY=VALUE", help="Change a setting (methods only).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show(name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Show NAME: a method, a dataset, a metric, an encoder, or the file of a record.

    Of a method its settings with the source of each default, its parameters and MACs, which are counted without
    weights, beside those that papers print; of a dataset its card; of a metric its definition, its source and where it
    has no value; of an encoder its shape, and where its weights are; of a record its scores.
    """
    if pairs and name not in METHODS.targets:
        what = "a dataset" if name in DATASETS.targets else "none"
        raise UsageError(f"--set changes settings of methods; {name} is {what}")
    facts: dict[str, Any]
    printed: Callable[[dict[str, Any]], None]
    if name in METHODS.targets:
        facts = kept(name, list(pairs), lambda: _method(name, pairs)) | {"published_cost": _published_cost(name)}
        printed = _print_method
    elif name in DATASETS.targets:
        facts, printed = asdict(DATASETS.load(name).card), _print_card
    elif is_metric(name):
        facts, printed = facts_of(name), print_metric
    elif Path(name).suffix == ".json":
        path = expanded(name)
        facts, printed = _record(path), lambda found: _print_record(path)
    else:
        facts, printed = _encoder(name), _print_encoder
    _print_json(facts) if as_json else printed(facts)


def _record(path: Path) -> dict[str, Any]:
    from bench.store import record as records

    return records.read(path).model_dump(mode="json")


def _print_record(path: Path) -> None:
    """Print what `bench run` printed when the cell ended."""
    from bench.cli.terminal import print_scores, say
    from bench.machine.terminal import console
    from bench.store import record as records

    record, out = records.read(path), console()
    print_scores(record, out)
    for key, text in (
        ("command", " ".join(record.command)),
        ("encoder", f"{record.encoder.name} @ {record.input_size}" if record.encoder else "none"),
        ("machine", f"{record.environment.processor}, {record.environment.device}, {record.environment.precision}"),
        ("commit", record.environment.commit or "not known"),
        ("created", record.created),
    ):
        say(out, f"{key:9} {text}")


def _encoder(name: str) -> dict[str, Any]:
    known = [*METHODS.targets, *DATASETS.targets]
    if "." not in name and (hint := did_you_mean(name, [*known, *METRICS.targets])):
        # the thousand names of timm are not looked at for a slip
        raise UsageError(f"nothing is called '{name}'.{hint} Known: {', '.join(known)}. See: bench ls")
    from bench.encoders import catalog, weights

    try:
        info = catalog.describe(name)
    except UsageError as error:
        raise UsageError(f"{error} Nor is it a method or a dataset: {', '.join(known)}. See: bench ls") from error
    path = weights.at_hand(name)
    return {**asdict(info), "bytes": catalog.bytes_of(name), "weights": str(path) if path is not None else None}


def _print_encoder(facts: dict[str, Any]) -> None:
    from bench.cli.terminal import say
    from bench.machine.terminal import console

    out = console()
    kind = {"vit": "ViT", "cnn": "CNN"}[facts["family"]]
    say(out, f"{facts['name']}  {kind}, {facts['bytes'] / 4e6:.1f} million parameters")
    say(out, f"input     {facts['input_size']} px as trained, a multiple of {facts['patch']}")
    if facts["family"] == "vit":
        tokens = counted(facts["prefix"], "token")
        say(
            out, f"blocks    {facts['depth']}, {facts['dim']} wide, {facts['heads']} heads; {tokens} before the patches"
        )
    else:
        say(out, f"stages    {facts['depth']}; the last has {facts['dim']} channels at stride {facts['patch']}")
    size = f"{facts['bytes'] / 1e6:.0f} MB"
    say(out, f"weights   {facts['weights'] or f'not here; fetched from the hub on first use, about {size}'}")


def _method(name: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    from bench.config import configure, parse_set
    from bench.encoders import catalog
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
        "family": kind.family,
        "encoder": asdict(request) | {"kind": catalog.requested(request).family} if request is not None else None,
        "needs": sorted(method.needs),
        "settings": settings,
        "dataset_overrides": {dataset: dict(values) for dataset, values in kind.overrides.items()},
        "steps": _lengths(kind, given),
        "paper_protocol": asdict(resolve("paper", kind, "industrial", getattr(config, "variant", ""))),
        "semantic_paper_protocol": asdict(kind.semantic_paper) if kind.semantic_paper else None,
        "cost": asdict(complexity(method)),
    }


def _published_cost(name: str) -> list[dict[str, str]]:
    """Return what papers print of a method's size: variant, parameters and MACs with their units, and where."""
    from bench.published import scores

    units = {"cost/params_m": "M parameters", "cost/macs_g": "GMAC"}
    found: dict[tuple[str, str], list[str]] = {}
    for score in scores():
        if score.method == name and score.metric in units:
            found.setdefault((score.variant, score.where), []).append(f"{score.value} {units[score.metric]}")
    return [
        {"variant": variant, "printed": ", ".join(cost), "where": where} for (variant, where), cost in found.items()
    ]


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
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from bench.cli.terminal import fits
    from bench.machine.terminal import console

    out = console()
    out.print(Text.assemble((facts["name"], "bold"), "  ", facts["title"]), soft_wrap=True)
    encoder, cost = facts["encoder"], facts["cost"]
    looks = "none"
    if encoder is not None:
        what = "stages" if encoder["kind"] == "cnn" else "blocks"
        looks = f"{encoder['name']}, {what} {encoder['blocks']}, input {encoder['input_size']} px"
        if encoder["kind"] == "vit":
            looks += f", {encoder['position']} positions"
    needs = ", ".join(one for one in facts["needs"] if one != "features")
    lines = [
        f"encoder   {looks}",
        *([f"needs     {needs}"] if needs else []),
        f"cost      {cost['params_total']:,} parameters, {cost['params_trainable']:,} trainable, "
        f"{cost['macs'] / 1e9:.2f} GMAC an image, {cost['macs_with_products'] / 1e9:.2f} with attention and search",
    ]
    printed: dict[str, list[str]] = {}
    for one in facts["published_cost"]:
        if not one["variant"]:
            printed.setdefault(one["printed"], []).append(one["where"])
    lines += [f"printed   {cost} ({', '.join(places)})" for cost, places in printed.items()]
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
    rows = [_setting(key, setting) for key, setting in facts["settings"].items()]
    for row in rows:
        table.add_row(*map(Text, row))
    if fits(table, out):
        out.print(table)
        return
    for key, value, source, meaning in rows:
        out.print(Text.assemble((key, "bold"), f" = {value}", (f"  {source}", "dim")), highlight=False)
        out.print(Padding(Text(meaning), (0, 0, 0, 4)))


def _setting(key: str, setting: dict[str, Any]) -> tuple[str, str, str, str]:
    value = setting["value"]
    # spelt as --set takes it: null, not None
    spelt = value if isinstance(value, str) else json.dumps(value)
    return key, spelt, setting["source"] or "", setting["help"] or ""


def _protocol(facts: dict[str, Any]) -> str:
    """Return in words what a paper's protocol looks at."""
    crop = "the whole image" if facts["crop"] == 1 else f"the middle {facts['crop']:.1%} of each side"
    return f"{crop}, maps {facts['eval_size']}x{facts['eval_size']}, masks by the rule {facts['mask_rule']}"


def _print_card(card: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from bench.machine.terminal import console

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
