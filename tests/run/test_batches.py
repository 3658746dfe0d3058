"""What methods are handed: the same images, features and draws wherever features lie, halved, killed and resumed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from bench.api import Batch, EncoderRequest, Memory, MemoryConfig, Method, MethodConfig, Prediction, Trained, sourced
from bench.encoders import frozen
from bench.errors import DatasetError, UsageError
from bench.loading.pixel_cache import PixelCache
from bench.machine.progress import Silent
from bench.methods import efficientad
from bench.methods._pdn import PatchNetwork
from bench.methods.efficientad import EfficientAD
from bench.plan import needs
from bench.plan.cells import Cell
from bench.plan.settings import check, tasks
from bench.plan.task import Task, hashed, index
from bench.plan.texture_source import Textures, find
from bench.protocol import COMMON
from bench.registry import DATASETS
from bench.run import cell as cells
from bench.run import feature_store, scoring
from bench.run.batches import TrainingBatches
from bench.run.cell import Options
from bench.run.complexity import complexity, training_cost
from bench.run.extractor import Extractor, Looking
from bench.run.seeding import BatchOrder, seed_everything, step_generator
from bench.run.textures import Draw, generated
from bench.run.training import Trainer
from bench.speed.ours import Ours, Variant
from bench.speed.plain import Plain

CPU = torch.device("cpu")
CNN = "test_resnet.r160_in1k"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example-plugin" / "bench_example"


def example(name: str, cls: str) -> type[Method]:
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kind: type[Method] = getattr(module, cls)
    return kind


def draem() -> Method:
    kind = example("draem_lite", "DraemLite")
    return kind(kind.Config(input_size=32, steps=6, batch_size=4))


def destseg() -> Method:
    kind = example("destseg_lite", "DestsegLite")
    return kind(kind.Config(encoder=CNN, input_size=64, steps=6, batch_size=4))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / f"{CNN}.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model(CNN, num_classes=0).state_dict(), path)
    return path


@pytest.fixture
def task(tree: Path) -> Task:
    return tasks(hashed(index("folder", tree, ()), Silent()), "multi")[0]


class Parts:
    """One method's extractor on a small task, and its training in several ways."""

    def __init__(self, method: Method, task: Task, weights: Path, checkpoint: Path) -> None:
        self.method, self.task, self.checkpoint = method, task, checkpoint
        side = needs.side(method, method.encoder())
        encoder = frozen.build(method.encoder(), weights, side)
        pixels, draw = PixelCache(task.dataset, task.hashes, side, side), Draw(Textures(), side, CPU)
        self.extract = Extractor(method, encoder, pixels, CPU, textures=draw)

    def store(self, place: str, at_once: int = 3) -> Any:
        if not self.extract.looking.needs_features:
            return None
        return feature_store.build(self.extract, self.task.train, Silent(), place=place, batch_size=at_once)

    def train(self, store: Any, checkpoint_seconds: float = 1e9) -> tuple[list[float], dict[str, torch.Tensor]]:
        seed_everything(0)
        module = needs.build(self.method, self.extract.encoder)
        trainer = Trainer(self.method, 0, CPU, "fp32", self.checkpoint, checkpoint_seconds, Silent())
        batches = TrainingBatches(self.extract, store, self.task.train, 0)
        return trainer.train(module, batches, self.task.train).losses, module.state_dict()


@pytest.fixture(params=[draem, destseg], ids=["draem_lite", "destseg_lite"])
def parts(request: pytest.FixtureRequest, task: Task, weights: Path, tmp_path: Path) -> Parts:
    return Parts(request.param(), task, weights, tmp_path / "cell.ckpt")


def same(one: tuple[list[float], dict[str, torch.Tensor]], other: tuple[list[float], dict[str, torch.Tensor]]) -> bool:
    return one[0] == other[0] and all(torch.equal(tensor, other[1][name]) for name, tensor in one[1].items())


def test_augmented_training_has_the_same_bits_wherever_features_lie_and_however_they_were_batched(parts: Parts) -> None:
    kept = parts.train(parts.store("memory"))
    assert len(kept[0]) == 6 and len(set(kept[0])) == 6
    for place in ("file", "none"):
        assert same(kept, parts.train(parts.store(place))), place
    assert same(kept, parts.train(parts.store("memory", at_once=1))), "as after running out of memory"


def test_augmented_training_resumes_to_the_same_bits(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = parts.train(parts.store("memory"))
    real, seen = TrainingBatches.at, []

    def killed(self: TrainingBatches, indices: torch.Tensor, step: int) -> Batch:
        seen.append(step)
        if seen == [0, 1, 2, 3]:
            raise KeyboardInterrupt
        return real(self, indices, step)

    monkeypatch.setattr(TrainingBatches, "at", killed)
    with pytest.raises(KeyboardInterrupt):
        parts.train(parts.store("memory"), checkpoint_seconds=0)
    assert parts.checkpoint.is_file()
    torch.rand(100)  # whatever was drawn in between
    assert same(undisturbed, parts.train(parts.store("memory")))
    assert seen == [0, 1, 2, 3, 3, 4, 5]


def test_what_is_painted_depends_on_seed_and_step_alone(parts: Parts) -> None:
    store, order = parts.store("memory"), BatchOrder(len(parts.task.train), 4, 0)

    def drawn(seed: int, step: int) -> torch.Tensor:
        batch = TrainingBatches(parts.extract, store, parts.task.train, seed).at(order.at(0), step)
        return torch.rand(8, generator=batch.random)

    first = drawn(0, 3)
    assert torch.equal(first, drawn(0, 3))
    assert not torch.equal(first, drawn(0, 4)) and not torch.equal(first, drawn(1, 3))
    batch = TrainingBatches(parts.extract, store, parts.task.train, 0).at(order.at(0), 3)
    assert batch.random is batch.random, "a step goes on drawing from one generator"


def test_images_are_the_pixels_in_0_to_1(parts: Parts) -> None:
    sample = parts.task.train[1]
    batch = parts.extract.batch([sample])
    side = parts.extract.encoder.info.input_size
    pixels = torch.from_numpy(PixelCache(parts.task.dataset, parts.task.hashes, side, side).read(sample).copy())
    assert torch.equal(batch.pixels, pixels.permute(2, 0, 1)[None].float() / 255)
    assert batch.pixels.is_contiguous() and batch.classes == () and batch.count == 1


def test_encoding_the_clean_images_gives_their_features(task: Task, weights: Path, tmp_path: Path) -> None:
    parts = Parts(destseg(), task, weights, tmp_path / "ckpt")
    batch = parts.extract.batch(task.train[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = batch.encode(batch.pixels)["stage"]
    assert again.dtype == torch.float32 and not again.requires_grad
    assert torch.equal(again, batch["stage"])


def whole(method: Method, task: Task, weights: Path | None, results: Path, **options: Any) -> Any:
    request = method.encoder()
    file = weights if request is not None else None
    textures = Textures() if "textures" in method.needs else None
    cell = Cell(method, task, 0, COMMON, request, file, "0" if file else "", "fp32", (), textures)
    record = cells.run(cell, Options(results, CPU, **options), Silent())
    assert record.error is None, record.error
    return record


def test_halving_the_inference_batch_changes_no_training(
    task: Task, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = whole(draem(), task, None, tmp_path / "plain")
    assert plain.training is not None and plain.encoder is None and plain.input_size == 32
    assert plain.training.store == "none" and plain.efficiency.params_total == plain.efficiency.params_trainable
    real, looked, shown = scoring.autocast, Extractor.batch, []

    def scarce(device: torch.device, precision: str) -> Any:
        if len(shown.pop()) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(device, precision)

    def batch(self: Extractor, samples: Any, *more: Any) -> Batch:
        shown.append(samples)
        return looked(self, samples, *more)

    monkeypatch.setattr(scoring, "autocast", scarce)
    monkeypatch.setattr(Extractor, "batch", batch)
    halved = whole(draem(), task, None, tmp_path / "halved", inference_batch=5)
    assert halved.reduced == {"inference": 2}
    assert halved.training.loss_curve == plain.training.loss_curve
    assert halved.mean["image/auroc"] == plain.mean["image/auroc"]


class Config(MethodConfig):
    input_size: int = sourced(32, "here", "side")
    steps: int = sourced(2, "here", "steps", ge=0)
    batch_size: int = sourced(3, "here", "images a step")


class Watching(Trained[Config, nn.Module]):
    """Writes down what it is asked, and ends with the mean image of a last pass."""

    name = "watching"
    needs = frozenset({"images", "classes"})

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.seen: list[Any] = []

    def build(self, info: Any) -> nn.Module:
        module = nn.Linear(1, 1)
        module.register_buffer("mean", torch.zeros(3))
        return module

    def fit(self, module: nn.Module, batches: Any) -> None:
        self.seen.append(("fit", sum(batch.count for batch in batches)))

    def loss(self, module: nn.Module, batch: Batch, step: int) -> torch.Tensor:
        self.seen.append(("loss", step, batch.classes))
        return module(torch.ones(1, 1)).square().mean()

    def finish(self, module: nn.Module, batches: Any) -> None:
        assert not module.training and not torch.is_grad_enabled()
        images = torch.cat([batch.pixels for batch in batches])
        self.seen.append(("finish", len(images)))
        module.mean.copy_(images.mean(dim=(0, 2, 3)))

    def anomaly(self, module: nn.Module, batch: Batch, info: Any, size: int) -> Prediction:
        self.seen.append(("anomaly", batch.classes))
        with pytest.raises(AssertionError, match="only training steps"):
            _ = batch.random
        return Prediction(scores=(batch.pixels.mean(dim=(2, 3)) - module.mean).abs().sum(dim=1))

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters())

    def learning_rate(self, step: int) -> float:
        return 0.01


def test_a_cell_goes_from_fit_through_steps_to_a_last_pass(task: Task, tmp_path: Path) -> None:
    method = Watching(Config())
    record = whole(method, task, None, tmp_path)
    kinds = [one[0] for one in method.seen]
    assert kinds[:4] == ["fit", "loss", "loss", "finish"] and set(kinds[4:]) == {"anomaly"}
    assert method.seen[0] == ("fit", 10) and method.seen[3] == ("finish", 10)
    told = [one[-1] for one in method.seen if one[0] in ("loss", "anomaly")]
    assert told.pop() == ("",), "costs are counted of an image of no class"
    assert all(names and set(names) <= {"dots", "lines"} for names in told)
    assert record.dataset.notes == ("watching is told the class of each image, at test time too",)
    assert {"fit", "train", "finish", "inference"} <= set(record.efficiency.seconds)


class Phased(Watching):
    """Begins a phase anew before its second and its fourth step, with the mean image of a pass as a weight."""

    @property
    def note(self) -> str:
        return "watched in phases"

    def phases(self) -> tuple[int, ...]:
        assert self.config.steps is not None
        return (1, self.config.steps - 2)

    def enter(self, module: nn.Module, batches: Any) -> None:
        assert not module.training and not torch.is_grad_enabled()
        images = torch.cat([batch.pixels for batch in batches])
        self.seen.append(("enter", len(images)))
        module.mean.add_(module.weight.sum() * images.mean(dim=(0, 2, 3)))

    def loss(self, module: nn.Module, batch: Batch, step: int) -> torch.Tensor:
        assert module.training
        return super().loss(module, batch, step) * (1 + module.mean.sum())


def test_a_training_in_phases_looks_at_the_images_where_each_begins(task: Task, tmp_path: Path) -> None:
    method = Phased(Config(steps=5))
    record = whole(method, task, None, tmp_path)
    kinds = [one[0] for one in method.seen]
    assert kinds[:9] == ["fit", "loss", "enter", "loss", "loss", "enter", "loss", "loss", "finish"]
    assert ("enter", 10) in method.seen and "watched in phases" in record.dataset.notes


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_a_training_in_phases_resumes_to_the_same_bits(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    undisturbed = whole(Phased(Config(steps=5)), task, None, tmp_path / "plain")
    real = TrainingBatches.at

    def killed(self: TrainingBatches, indices: torch.Tensor, step: int) -> Batch:
        if step > last:
            raise KeyboardInterrupt
        return real(self, indices, step)

    monkeypatch.setattr(TrainingBatches, "at", killed)
    with pytest.raises(KeyboardInterrupt):
        whole(Phased(Config(steps=5)), task, None, tmp_path / "killed", checkpoint_seconds=0)
    monkeypatch.undo()
    method = Phased(Config(steps=5))
    resumed = whole(method, task, None, tmp_path / "killed")
    assert resumed.training is not None and resumed.training.resumed_at == (last + 1,)
    assert [one[0] for one in method.seen].count("enter") == (last < 1) + (last < 3)
    scores = [one.predictions for one in (undisturbed, resumed)]
    assert undisturbed.training.loss_curve == resumed.training.loss_curve and undisturbed.mean == resumed.mean
    assert scores[0] == scores[1]


def test_a_student_of_a_given_teacher_has_no_encoder_and_says_whose_it_is(task: Task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(PatchNetwork("s", 4, 8).state_dict(), tmp_path / "teacher.pth")
    thin = {"input_size": 64, "width": 4, "dim": 8, "autoencoder_width": 4, "batch_size": 2}
    method = EfficientAD(efficientad.Config(**thin, teacher=str(tmp_path / "teacher.pth"), steps=3))
    record = whole(method, task, None, tmp_path / "out", keep_model=True)
    assert record.encoder is None and record.training is not None and record.training.steps == 3
    assert record.dataset.notes == (
        "textures are generated: none of dtd was at hand",
        f"efficientad's teacher is of a file, sha256 {method.revision[8:24]}",
    )
    assert record.mean["image/auroc"] is not None and record.mean["pixel/auroc"] is not None


def test_costs_of_a_method_without_an_encoder_are_those_of_its_networks() -> None:
    method = draem()
    cost, step = complexity(method), training_cost(method)
    module = needs.build(method, frozen.absent(32))
    assert cost.params_total == cost.params_trainable == sum(param.numel() for param in module.parameters())
    assert cost.macs == cost.macs_trainable > 0 and step.frozen == 0 and step.trained == cost.macs


def test_costs_count_every_look_through_the_encoder() -> None:
    cost, step = complexity(destseg()), training_cost(destseg())
    once = cost.macs - cost.macs_trainable
    assert once > 0 and step.frozen == 2 * once, "clean images and spoilt ones"


@pytest.mark.parametrize(
    ("wanted", "encoder", "message"),
    [
        ({"image"}, None, "needs 'image'.*Did you mean 'images'"),
        ({"features"}, None, "needs features, but asks for no encoder"),
        ({"images", "trunk"}, None, "needs trunk, but asks for no encoder"),
        ({"classes"}, EncoderRequest(CNN, (1,), 64), "neither features nor images"),
    ],
)
def test_needs_that_cannot_be_met_are_refused(wanted: set[str], encoder: EncoderRequest | None, message: str) -> None:
    method = SimpleNamespace(name="mine", needs=wanted, config=SimpleNamespace(input_size=32))
    with pytest.raises(UsageError, match=message):
        needs.check(method, encoder)  # type: ignore[arg-type]


class Bank(Memory[MemoryConfig, nn.Module]):
    name = "bank"

    def build(self, info: Any) -> nn.Module:
        return nn.Module()

    def fit(self, module: nn.Module, batches: Any) -> None:
        pass

    def anomaly(self, module: nn.Module, batch: Batch, info: Any, size: int) -> Prediction:
        raise NotImplementedError


def test_a_memory_writes_no_refusals() -> None:
    method = Bank(MemoryConfig(input_size=32))
    assert Bank.Config is MemoryConfig and method.steps(100) == 0 and method.paper is COMMON
    for call in (lambda: method.loss(nn.Module(), Batch({}), 0), lambda: method.optimizer(nn.Module())):
        with pytest.raises(UsageError, match="bank trains nothing"):
            call()
    with pytest.raises(TypeError, match="abstract"):
        type("Bare", (Trained,), {})(Config())


class Tuned(Trained[Config, nn.Module]):
    """Fine-tunes a copy of the encoder's trunk."""

    name = "tuned"
    needs = frozenset({"images", "trunk"})

    def encoder(self) -> EncoderRequest:
        return EncoderRequest(CNN, (1, 4), 64)

    def features(self, blocks: Any, info: Any) -> dict[str, torch.Tensor]:
        return {"last": blocks[4]}

    def build(self, info: Any, trunk: nn.Module | None = None) -> nn.Module:
        assert trunk is not None
        return trunk

    def loss(self, module: nn.Module, batch: Batch, step: int) -> torch.Tensor:
        found = module(batch.pixels)
        return (found[4] - batch.encode(batch.pixels)["last"]).square().mean() + found[1].mean()

    def anomaly(self, module: nn.Module, batch: Batch, info: Any, size: int) -> Prediction:
        apart = module(batch.pixels)[4] - batch.encode(batch.pixels)["last"]
        return Prediction(scores=apart.square().mean(dim=(1, 2, 3)))

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters())

    def learning_rate(self, step: int) -> float:
        return 0.1


def test_a_trunk_is_trained_beside_the_frozen_encoder(task: Task, weights: Path, tmp_path: Path) -> None:
    method = Tuned(Config(input_size=64))
    record = whole(method, task, weights, tmp_path / "out")
    assert record.efficiency.params_total == 2 * record.efficiency.params_trainable
    assert record.training.loss_curve[0][1] > record.training.loss_curve[1][1]
    encoder = frozen.build(method.encoder(), weights)
    module, images = needs.build(method, encoder), torch.rand(2, 3, 64, 64)
    module.eval()
    for stage, maps in encoder(encoder.normalised(images)).items():
        assert torch.equal(module(images)[stage], maps)
    method.loss(module, Looking(method, encoder).batch(images, ("", "")), 0).backward()
    assert all(param.grad is not None for param in module.parameters())
    assert not any(param.requires_grad for param in encoder.parameters())
    assert step_generator(0, 0, CPU).initial_seed() != step_generator(0, 1, CPU).initial_seed()


def write_textures(root: Path, kept: int | None = None) -> Path:
    kind = DATASETS.load("dtd")
    for number, name in enumerate(kind.card.classes[:kept]):
        folder = root / "dtd" / "images" / name
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}_0001.jpg")
    return root


def test_textures_come_from_the_auxiliary_dataset_below_the_data_root(tmp_path: Path) -> None:
    found = find([str(write_textures(tmp_path))], Silent())
    assert (found.name, len(found.samples)) == ("dtd", 47) and "textures are those of dtd: 47 images" in found.note
    draw = Draw(found, 32, CPU)
    draw.decode(Silent())
    first, again, other = (draw(5, step_generator(0, step, CPU)) for step in (1, 1, 2))
    assert first.shape == (5, 3, 32, 32) and first.dtype == torch.float32 and 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_without_an_auxiliary_dataset_textures_are_generated_and_that_is_said(tmp_path: Path, task: Task) -> None:
    found = find([str(tmp_path)], Silent())
    assert found == find([], Silent()) == Textures()
    (tmp_path / "mvtec" / "grid").mkdir(parents=True)
    assert find([str(tmp_path / "mvtec")], Silent()) == Textures(), "MVTec's grid is no texture of DTD's"
    drawn = generated(3, 50, step_generator(0, 0, CPU), CPU)
    assert drawn.shape == (3, 3, 50, 50) and 0 <= drawn.min() < 0.3 and 0.7 < drawn.max() <= 1
    assert int((drawn * 255).round().sum()) == 2_823_124, "the same on every machine"
    record = whole(draem(), task, None, tmp_path / "out")
    assert record.dataset.notes == ("textures are generated: none of dtd was at hand",)


def test_a_root_that_is_named_for_textures_must_hold_them_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dtd is not at"):
        find([f"dtd={tmp_path}"], Silent())
    with pytest.raises(DatasetError, match="studded: no image"):
        find([f"dtd={write_textures(tmp_path, kept=40)}"], Silent())


def test_textures_are_part_of_what_a_cell_is(task: Task, tmp_path: Path) -> None:
    found = find([str(write_textures(tmp_path))], Silent())
    cells_ = [Cell(draem(), task, 0, COMMON, None, None, "", "fp32", (), one) for one in (None, Textures(), found)]
    assert len({cell.fingerprint for cell in cells_}) == 3


def test_a_source_of_textures_is_not_run_on_by_itself() -> None:
    with pytest.raises(UsageError, match=r"source of textures.*--data-root dtd=DIR"):
        check([DATASETS.load("dtd").card], ["multi"], (), (), None)


def test_the_plain_way_hands_the_same_steps_batches_of_its_own(task: Task, parts: Parts) -> None:
    if parts.method.name != "draem_lite":
        pytest.skip("one method without an encoder is enough")
    cell = Cell(parts.method, task, 0, COMMON, None, None, "", "fp32", (), Textures())
    plain, ours = Plain(cell, CPU, 4, lambda: None), Ours(cell, CPU, 4, lambda: None, print)
    assert torch.equal(plain._batched("train", task.train, 4, 0).pixels, parts.extract.batch(task.train[:4]).pixels)
    varied = Variant("fp32", kept=False)
    assert all(way(2) > 0 for way in (plain.train, ours.train(varied), plain.score, ours.score(Variant("bf16"))))
    assert plain._stepper is not None and plain._stepper._step == ours._steppers[varied]._step == 2
