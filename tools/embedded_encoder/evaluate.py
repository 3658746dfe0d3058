"""k-nearest-neighbour accuracy of the frozen features on held-back real images, beside the same network untrained.

    python -m embedded_encoder.evaluate --data-dir DATA --weights-dir WEIGHTS --json FIGURES.json

Nothing here is trained: class-token or mean-patch features of the labelled reference images vote by cosine similarity
(k = 20, weight exp(similarity / 0.07), features centred on the reference mean).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from bench.encoders.embedded import WEIGHTS
from bench.loading import idx
from bench.loading.pickles import read_plain

from .student import IMG_SIZE, build, normalised

Labelled = tuple[list[Image.Image], npt.NDArray[np.int64]]
Features = Callable[[list[Image.Image]], dict[str, Tensor]]


def cifar10(root: Path, most: int) -> tuple[Labelled, Labelled]:
    """(reference, test) of the CIFAR-10 sample."""

    def batch(name: str) -> tuple[npt.NDArray[np.uint8], list[int]]:
        content = read_plain(root / "cifar-10-batches-py" / name)
        return content[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), list(content[b"labels"])

    parts = [batch(f"data_batch_{i}") for i in range(1, 6)]
    train = np.concatenate([p[0] for p in parts]), [label for p in parts for label in p[1]]
    return spread(*train, 2 * most), spread(*batch("test_batch"), most)


def view(root: Path, most: int) -> tuple[Labelled, Labelled]:
    """(reference, test) of the Intel natural scenes; `most` is not applied, the sample is small."""

    def folder(name: str) -> Labelled:
        files = sorted((root / "intel_view" / name / name).glob("*/*.jpg"))
        classes = sorted({f.parent.name for f in files})
        return [Image.open(f).convert("RGB") for f in files], np.array([classes.index(f.parent.name) for f in files])

    return folder("seg_train"), folder("seg_test")


def fashion(root: Path, most: int) -> tuple[Labelled, Labelled]:
    """(reference, test) out of Fashion-MNIST's TEST file: its training file was used to distil."""
    raw = root / "FashionMNIST" / "raw"
    grey = idx.read(raw / "t10k-images-idx3-ubyte.gz")
    images, answers = np.repeat(grey[..., None], 3, -1), list(idx.read(raw / "t10k-labels-idx1-ubyte.gz"))
    return spread(images[:6000], answers[:6000], 2 * most), spread(images[6000:], answers[6000:], most)


def spread(images: npt.NDArray[np.uint8], labels: list[int], most: int) -> Labelled:
    """At most `most` images, the same number a class as far as there are."""
    answers = np.array(labels, dtype=np.int64)
    each = most // (answers.max() + 1)
    rows = np.concatenate([np.flatnonzero(answers == c)[:each] for c in range(answers.max() + 1)])
    return [Image.fromarray(images[i]) for i in rows], answers[rows]


DATASETS = {"cifar10": cifar10, "view": view, "fashion_mnist": fashion}


def student_features(state: dict[str, Tensor], chunk: int = 32) -> Features:
    """Class token and mean patch token after the last norm."""
    model = build(state["cls_token"].shape[-1]).eval()
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=True)

    @torch.inference_mode()
    def features(images: list[Image.Image]) -> dict[str, Tensor]:
        size = (IMG_SIZE, IMG_SIZE)
        pixels = np.stack([np.asarray(i.resize(size, Image.Resampling.BILINEAR)) for i in images])
        with torch.autocast("cpu", torch.bfloat16):
            out = [model.forward_features(normalised(p)).float() for p in torch.split(torch.from_numpy(pixels), chunk)]
        sequence = torch.cat(out)
        return {"class": sequence[:, 0], "mean": sequence[:, 1:].mean(1)}

    return features


def teacher_features(weights_dir: Path, chunk: int = 32) -> Features:
    """Pooled features of tf_efficientnet_lite0 at its own input size."""
    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(load_file(weights_dir / "tf_efficientnet_lite0.in1k.safetensors"), strict=True)

    @torch.inference_mode()
    def features(images: list[Image.Image]) -> dict[str, Tensor]:
        pixels = np.stack([np.asarray(i.resize((224, 224), Image.Resampling.BILINEAR)) for i in images])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            out = [
                model.forward_head(model.forward_features(p), pre_logits=True).float() for p in torch.split(x, chunk)
            ]
        return {"class": torch.cat(out)}

    return features


def knn(reference: Tensor, answers: Tensor, queries: Tensor, truth: Tensor, k: int = 20) -> float:
    """Share of queries [M, D] whose weighted vote among references [N, D] is right."""
    centre = reference.mean(0)
    a, b = F.normalize(reference - centre, dim=-1), F.normalize(queries - centre, dim=-1)
    near, index = (b @ a.T).topk(k, dim=-1)
    votes = torch.zeros(len(b), int(answers.max()) + 1)
    votes.scatter_add_(1, answers[index], (near / 0.07).exp())
    return float((votes.argmax(1) == truth).float().mean())


def figures(features: Features, root: Path, most: int) -> dict[str, dict[str, float]]:
    """{data set: {token: accuracy}}."""
    out: dict[str, dict[str, float]] = {}
    for name, load in DATASETS.items():
        (reference, answers), (queries, truth) = load(root, most)
        a, b = features(reference), features(queries)
        out[name] = {t: knn(a[t], torch.from_numpy(answers), b[t], torch.from_numpy(truth)) for t in a}
        print(name, {t: round(v, 3) for t, v in out[name].items()}, flush=True)
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--file", type=Path, default=WEIGHTS)
    parser.add_argument("--weights-dir", type=Path, help="folder with the teacher's file; needed for its figures")
    parser.add_argument("--networks", default="trained,untrained,teacher", help="which to measure, separated by commas")
    parser.add_argument("--most", type=int, default=1000, help="test images a data set; twice as many references")
    parser.add_argument("--json", type=Path, help="figures are added to what this file holds")
    args = parser.parse_args()
    state = load_file(args.file)
    torch.manual_seed(0)
    start = build(state["cls_token"].shape[-1]).state_dict()
    makers: dict[str, Callable[[], Features]] = {
        "trained": lambda: student_features(state),
        "untrained": lambda: student_features(start),
        "teacher": lambda: teacher_features(args.weights_dir),
    }
    record = json.loads(args.json.read_text()) if args.json and args.json.exists() else {"knn": {}}
    for network in args.networks.split(","):
        record["knn"][network] = figures(makers[network](), args.data_dir, args.most)
        record |= {"k": 20, "test_images_at_most": args.most, "date": time.strftime("%Y-%m-%d")}
        if args.json:
            args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
