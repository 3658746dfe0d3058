"""Distils the two CNNs into the small ViT within a time or a number of steps; can be stopped and resumed.

    python -m embedded_encoder.crops --images-dir IMAGES --out WORK
    python -m embedded_encoder.distil --weights-dir WEIGHTS --work WORK --minutes 90 --out FILE.safetensors

Most steps read a quarter of the tokens (a window of a crop, or a crop at half size), for these cost a quarter; the last
part reads whole crops. Teacher targets are computed once a crop, as training gets to it, and kept in WORK.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .objective import Heads, losses, total, view
from .recipe import Recipe, Settings, recipe_hash
from .stream import STREAM, joint, nearest_rotation, principal_axes, stream_loss
from .student import PATCH, build, export, normalised, position_embedding, start_well, tokens
from .targets import TargetStore, prepare
from .together import agreed, average_gradients, launch, share_parameters

SAVE_EVERY = 180.0  # seconds
TELL_EVERY = 20  # steps


class Training:
    """The student, its heads, their optimizers, the moving average of the student, and how far it has come."""

    def __init__(self, settings: Settings, rank: int, processes: int) -> None:
        self.settings, self.recipe, self.rank, self.processes = settings, settings.recipe, rank, processes
        torch.manual_seed(self.recipe.seed)
        self.device = torch.device(settings.device)
        self.store = TargetStore(settings.work, settings.weights_dir, rank, processes, self.device)
        self.model, self.heads = build(self.recipe.embed_dim), Heads(self.recipe.embed_dim)
        sample = normalised(torch.from_numpy(self.store.crops[:200].copy()))
        start_well(self.model, F.unfold(sample, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1))
        self.model.to(self.device)
        self.heads.to(self.device)
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.parameters = [*self.model.parameters(), *self.heads.parameters()]
        self.optims, self.groups = self.optimizers()
        self.spread = self.store.spread("top").to(self.device)
        self.onto_stream: Tensor | None = None
        self.step, self.seen, self.spent = 0, 0, 0.0
        self.checkpoint = settings.work / f"{settings.out.stem}.{rank}of{processes}.pt"
        if settings.resume and self.checkpoint.exists():
            self.load(torch.load(self.checkpoint, weights_only=True, map_location=self.device))
        self.identity = recipe_hash(self.recipe, settings.work)

    def optimizers(self) -> tuple[list[torch.optim.Optimizer], list[list[nn.Parameter]]]:
        """Muon for the matrices of the blocks, each process its share; AdamW for everything else, in all of them.

        Returns the optimizers of this process and the matrices by the process that updates them.
        """
        matrices = [p for n, p in self.model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
        taken = {id(p) for p in matrices}
        rest = [p for p in self.parameters if id(p) not in taken]
        lr, decay = self.recipe.learning_rate, self.recipe.weight_decay
        groups = [matrices[r :: self.processes] for r in range(self.processes)]
        muon = torch.optim.Muon(groups[self.rank], lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        return [muon, torch.optim.AdamW(rest, lr=lr, weight_decay=decay, betas=(0.9, 0.98))], groups

    def one_step(self, done: float) -> dict[str, Tensor]:
        """Reads one batch and updates everything; `done` is the share of the training behind. Returns the losses."""
        recipe, step = self.recipe, self.step
        # `shared` draws alike in all processes: the crops differ between them, the way of reading must not.
        shared = np.random.default_rng([recipe.seed, step])
        own = np.random.default_rng([recipe.seed, step, self.rank])
        self.store.grow(int(recipe.pool_start + recipe.pool_growth * self.seen) // self.processes)
        whole = done > recipe.whole_after or shared.random() < recipe.whole_share
        mode = "whole" if whole else ("window", "half")[step % 2]
        batch = recipe.batch_whole if whole else recipe.batch_quarter
        pixels, targets = self.store.draw(own, batch // self.processes)
        if shared.random() < 0.5:
            pixels, targets = pixels.flip(2), {k: t.flip(2) for k, t in targets.items()}
        for optim in self.optims:
            for group in optim.param_groups:
                group["lr"] = recipe.rate(step, done)
        with torch.autocast(self.device.type, torch.bfloat16):
            images, targets, positions = view(pixels, targets, mode, position_embedding(self.model), shared)
            contrast = 1 + 0.1 * torch.randn(len(images), 1, 1, 1, device=self.device)
            tapped, final = tokens(self.model, images * contrast, positions)
            parts = losses(tapped, final, self.heads, targets, self.spread)
        if done >= recipe.stream_after:
            self.onto_stream = self.turned() if self.onto_stream is None else self.onto_stream
            parts["stream"] = stream_loss([tapped[number] for number in STREAM], targets, self.onto_stream)
        loss = total(parts, recipe.gram_weight, recipe.stream_weight)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}, learning rate {recipe.rate(step, done)}")
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters, self.processes)
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        for optim in self.optims:
            optim.step()
        for parameter in self.parameters:
            parameter.grad = None
        share_parameters(self.groups, self.processes)
        keep = min(recipe.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                self.average[key].lerp_(value, 1 - keep)
        self.step, self.seen = step + 1, self.seen + batch
        return parts

    @torch.no_grad()
    def turned(self) -> Tensor:
        """float32 [C, D]: from teacher features to where the student's own middle block is nearest to them."""
        pixels, targets = self.store.sample(96)
        tapped, _ = tokens(self.model, normalised(pixels), position_embedding(self.model)[:, 1:])
        features = joint(targets).flatten(0, 1)
        axes = principal_axes(features, self.recipe.embed_dim)
        return axes @ nearest_rotation(tapped[STREAM[len(STREAM) // 2]].flatten(0, 1), features @ axes)

    @property
    def pool(self) -> int:
        """Crops that have targets, in all processes."""
        return (self.store.ready - self.store.first) * self.processes

    def save(self) -> None:
        """Checkpoint of this process, replaced atomically; process 0 also exports the average so far."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average,
        }
        state |= {"optims": [o.state_dict() for o in self.optims]}
        state |= {"onto_stream": self.onto_stream}
        state |= {"step": self.step, "seen": self.seen, "spent": self.spent}
        torch.save(state, self.checkpoint.with_suffix(".partial"))
        self.checkpoint.with_suffix(".partial").replace(self.checkpoint)
        if self.rank == 0:
            latest = self.settings.work / f"{self.settings.out.stem}.latest.safetensors"
            export(self.average, latest, self.identity)

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from what `save` kept."""
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optim, saved in zip(self.optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        self.onto_stream = state.get("onto_stream")
        self.average, self.step, self.seen, self.spent = (state[k] for k in ("average", "step", "seen", "spent"))


def train(settings: Settings, rank: int, processes: int) -> None:
    """One process's life; process 0 also reports and writes the result."""
    run = Training(settings, rank, processes)
    began, saved_at = time.monotonic() - run.spent, run.spent
    running: dict[str, float] = {}
    while True:
        run.spent = agreed(time.monotonic() - began, processes)
        done = run.step / settings.steps if settings.steps else run.spent / (60 * settings.minutes)
        if done >= 1:
            break
        for key, value in run.one_step(done).items():
            running[key] = 0.97 * running.get(key, value.item()) + 0.03 * value.item()
        if run.step % TELL_EVERY == 0 and rank == 0:
            told = " ".join(f"{k} {v:.3f}" for k, v in running.items())
            print(f"{run.step} {done:.1%} pool {run.pool} seen {run.seen} {run.spent / 60:.1f} min {told}", flush=True)
        if run.spent - saved_at > SAVE_EVERY:
            saved_at = run.spent
            run.save()
    if rank == 0:
        print(f"sha256 {export(run.average, settings.out, run.identity)} after {run.step} steps")
        record: dict[str, Any] = {
            "steps": run.step,
            "crops_read": run.seen,
            "distinct_crops": run.pool,
            "minutes": run.spent / 60,
        }
        record |= {"recipe_hash": run.identity, "recipe": asdict(run.recipe), "losses": running}
        settings.out.with_suffix(".json").write_text(json.dumps(record, indent=1))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights-dir", type=Path, required=True, help="folder with the two teachers' safetensors")
    parser.add_argument("--work", type=Path, required=True, help="folder with crops.npy; gets targets and checkpoints")
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, default=0.0)
    length.add_argument("--steps", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--processes", type=int, default=2, help="single-thread processes that train together on a CPU")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (one process)")
    args = parser.parse_args()
    if args.device != "cpu" and args.processes != 1:
        parser.error(f"--device {args.device} trains in one process: add --processes 1")
    prepare(args.work, args.weights_dir)
    paths = (args.work, args.weights_dir, args.out)
    settings = Settings(*paths, Recipe(), args.minutes, args.steps, args.resume, args.device)
    launch(partial(train, settings), args.processes, args.work / "meeting")


if __name__ == "__main__":
    main()
