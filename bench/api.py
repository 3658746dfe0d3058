"""What plug-ins see: the contracts between the harness, methods and datasets. Loads no torch.

A dataset says which images exist (`Sample`), what they are worth (`label`, masks) and how to read them.
A method says which frozen encoder it looks through, what of the encoder's output training needs (`features`), what is
trained (`build`), how (`loss`, `optimizer`, `learning_rate`) and how a score is read off (`anomaly`).
Loops, caching, precision, checkpoints, metrics and records are the harness's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL import Image

    from bench.protocol import Protocol

Split = Literal["train", "val", "test"]


# --------------------------------------------------------------------------------------------------- datasets
@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset and what its owners say of it."""

    id: str
    """Unique in the dataset, stable across machines, posix separators: `bottle/test/broken_large/000`."""
    cls: str
    """Class (product, category) the image belongs to."""
    split: Split
    label: int
    """0 normal, 1 anomalous: by the dataset's own statement, never derived from a mask."""
    defect: str
    """Defect type as the dataset names it; `good` for a normal image."""
    image: Path
    """File that holds the image."""
    member: str = ""
    """Which image inside `image`, where one file holds many; empty where the file is the image."""
    masks: tuple[Path, ...] = ()
    """Mask files; their union is the anomalous area. Empty for normal images and image-level datasets."""
    family: str = ""
    """Group of defects that is also scored by itself, against all normal images (MVTec LOCO: `logical`, `structural`);
    empty where the dataset has no such groups, and for normal images."""
    unit: str = ""
    """Physical object that several images show (Real-IAD's five views); empty where an image is an object."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images of a class: `train` (normal), test `good`, test `bad` (anomalous) and `val` (normal, unused).

    A semantic class is neither good nor bad until a setting says so: its test images count as `good`.
    """

    train: int
    good: int
    bad: int
    val: int = 0


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a dataset at a direct public address of its owners; `bench data get` fetches it."""

    url: str
    sha256: str = ""
    """Of the file, 64 hex digits; empty where it is not known for certain."""
    bytes: int = 0
    """Size of the file; 0 where it is not known for certain."""
    unpack: Literal["tar", "zip", ""] = ""
    """Kind of archive (a tar may be gzipped); empty for a file that is kept as it is."""
    folder: str = ""
    """Where below the data root the file, or what it holds, is put; empty for the root itself."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a dataset is, as its owners publish it."""

    name: str
    title: str
    kind: Literal["industrial", "semantic"]
    classes: tuple[str, ...]
    """Class names in the papers' order; empty where they are only known from the files."""
    counts: Mapping[str, Counts]
    """Expected counts by class; empty where unknown."""
    masks: Literal["pixel", "none", "optional"]
    licence: str
    citation: str
    source: str
    """Where to get it, in words a person can follow."""
    notes: tuple[str, ...] = ()
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Semantic sets: split name (A to D) -> the classes that are normal in it; the others are anomalous."""
    totals: Counts | None = None
    """Expected counts over all classes, where the owners state only these."""
    downloads: tuple[Download, ...] = ()
    """What can be fetched without a form or an account; empty where `source` is the only way."""


class Dataset(ABC):
    """A dataset as its owners distribute it, found under `root`. Indexing reads no pixels."""

    card: ClassVar[Card]

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    @abstractmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return the dataset's own folder: `data_root` itself or its usual sub-folder.

        Raises:
            DatasetError: nothing that looks like this dataset is there.
        """

    @abstractmethod
    def samples(self) -> tuple[Sample, ...]:
        """Return every sample of every class and split, ordered by class as in the card, then by id.

        Raises:
            DatasetError: a class folder, split file or an anomalous image's mask is missing.
        """

    def read_image(self, sample: Sample) -> Image.Image:
        """Return the image in mode RGB at its native size. Raises DatasetError naming the file."""
        from bench.loading.images import read_rgb

        return read_rgb(sample.image)

    def read_mask(self, sample: Sample) -> npt.NDArray[np.bool_]:
        """Return bool [H, W] at native size: the union of the sample's masks, any non-zero value.

        Raises:
            DatasetError: a mask is unreadable, or of another size than the image.
        """
        from bench.loading.masks import read_union

        return read_union(sample)


# ---------------------------------------------------------------------------------------------------- methods
def sourced(default: Any, source: str, help: str, **limits: Any) -> Any:
    """Return a pydantic field whose default cites where it comes from (paper section, official code, or ours)."""
    return Field(default, description=help, json_schema_extra={"source": source}, **limits)


class MethodConfig(BaseModel):
    """Base of a method's typed configuration: frozen, unknown keys refused, each default sourced."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    encoder: str
    """Frozen encoder by catalogue name."""
    input_size: int | None
    """Side of the square network input in pixels; None lets the method choose for its encoder."""
    batch_size: int
    steps: int | None
    """Training iterations; 0 for methods that train nothing, None where they follow from the number of training images.
    See `Method.steps`."""


@dataclass(frozen=True, slots=True)
class EncoderRequest:
    """What a method needs of a frozen encoder."""

    name: str
    blocks: tuple[int, ...]
    """0-based, ascending indices of transformer blocks (or CNN stages) whose raw output is wanted. For a ViT, -1 is the
    embedded sequence that enters block 0, and the depth is the last block's output after the final norm."""
    input_size: int
    statistics: Literal["encoder", "imagenet"] = "encoder"
    """Mean and standard deviation that pixels are normalised by: those that the encoder was trained with, or ImageNet's
    whatever the encoder."""
    position: Literal["dinov2", "timm"] = "timm"
    """How position embeddings are resized to another grid: by the offset rule of DINO's and DINOv2's own code, or by
    timm's antialiased one."""


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """Shape facts of a built encoder; enough to build a method's trainable part, also on the meta device."""

    name: str
    family: Literal["vit", "cnn"]
    dim: int
    """Token width of a ViT; width of the last requested stage of a CNN."""
    depth: int
    heads: int
    patch: int
    prefix: int
    """Tokens before the patches: class and register tokens."""
    grid: tuple[int, int]
    """Patch rows and columns at the requested input size."""
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: tuple[int, ...] = ()
    """Width of each requested stage (CNN only)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Raw anomaly scores of a batch, higher = more anomalous, never normalised."""

    scores: torch.Tensor
    """float32 [B], one image score each."""
    maps: torch.Tensor | None = None
    """float32 [B, S, S] at the protocol's evaluation size; None for image-level methods."""


class Method(ABC):
    """One anomaly-detection method. Instances hold configuration only; weights live in the module they build."""

    name: ClassVar[str]
    Config: ClassVar[type[MethodConfig]]
    paper: ClassVar[Protocol]
    """The published recipe: what `--protocol paper` means for this method."""
    semantic_paper: ClassVar[Protocol | None] = None
    """The same on semantic sets, where the paper treats them otherwise."""
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Config values that the paper sets for a dataset (`realiad`), a setting on every dataset (`single`) or both
    (`realiad/single`): that name -> key -> value; a later kind in this row wins."""
    clip_norm: float | None = None
    """Global gradient-norm clip over all trainable parameters."""

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    @property
    def revision(self) -> str:
        """What this configuration computes otherwise than the same settings once did, in words; empty for nearly all.

        It is part of a cell's fingerprint: a record of the older computation is not taken for one of this.
        """
        return ""

    def steps(self, images: int) -> int:
        """Return the training iterations on so many images; 0 where nothing is trained.

        `config.steps` unless a method states epochs: its own `steps` turns them into iterations where that is None.
        """
        if self.config.steps is None:
            raise NotImplementedError(f"{self.name}: steps is null, and its method does not say what follows from that")
        return self.config.steps

    def settled(self, images: int) -> Self:
        """Return the method as it trains on so many images: `config.steps` is what `steps` returns for them.

        The harness calls `loss`, `optimizer` and `learning_rate` on this one.
        """
        steps = self.steps(images)
        return self if steps == self.config.steps else type(self)(self.config.model_copy(update={"steps": steps}))

    @abstractmethod
    def encoder(self) -> EncoderRequest:
        """Return which encoder, blocks and input size this configuration needs.

        Raises:
            UsageError: the encoder does not fit the method; the message names what fits.
        """

    @abstractmethod
    def features(self, blocks: Mapping[int, torch.Tensor], info: EncoderInfo) -> dict[str, torch.Tensor]:
        """Reduce the encoder's block outputs to what `loss` and `anomaly` need. Pure; called without gradient.

        Args:
            blocks: block index -> float [B, prefix + h*w, dim] (ViT) or [B, C, h, w] (CNN).
            info: the encoder's shape.

        Returns:
            Named tensors, batch first. The feature store keeps exactly these.
        """

    @abstractmethod
    def build(self, info: EncoderInfo) -> torch.nn.Module:
        """Return the trainable part, freshly initialised from torch's global generator (seeded by the harness)."""

    def fit(  # noqa: B027 - doing nothing is the right default
        self, module: torch.nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]
    ) -> None:
        """Take in the training images' features once, before any step; methods without a memory do nothing.

        Args:
            module: as `build` returns it, on its device; what is remembered goes into its buffers.
            batches: features of all training images, each once, in the task's order, batch first, without gradient.
        """

    @abstractmethod
    def loss(self, module: torch.nn.Module, features: Mapping[str, torch.Tensor], step: int) -> torch.Tensor:
        """Return the scalar training loss of a batch of normal images at iteration `step` (from 0)."""

    @abstractmethod
    def anomaly(
        self, module: torch.nn.Module, features: Mapping[str, torch.Tensor], info: EncoderInfo, size: int
    ) -> Prediction:
        """Score a batch; maps come at `size` x `size` pixels, covering the network's input."""

    @abstractmethod
    def optimizer(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the trainable part."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Return the learning rate used at iteration `step` (from 0).

        A parameter group of the optimizer with a value `lr_scale` takes that many times it, every other group takes it
        as it is.
        """

    def remedy(self) -> str:
        """Return what the authors advise where the loss is not finite (`--set ...`); empty where they say nothing."""
        return ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect that `bench data verify` reports."""

    cls: str
    kind: str
    """Short stable name.

    The files' layout: `layout`, `name`, `count`, `missing-mask`, `orphan-mask`, `duplicate-id`, and `unread` (images
    that are left out). A file that cannot be used: `unreadable`, `mask-size`, and `mask-alpha` (colours and
    transparency contradict each other). What is read, though perhaps not as it looks: `orientation`, `frames`,
    `transparent`, `low-bits` (16-bit images that use the lower bits alone), `lossy-mask`, `soft-mask`, `empty-mask`,
    `wide-mask` (marks most of its image), `normal-mask` (marks a normal image). The same pixels twice: `duplicate`.
    """
    where: str
    text: str
    stops: bool = True
    """Whether a run is refused until it is mended; others it says, and goes on."""


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of verifying a dataset: counts seen by class, and defects."""

    seen: Mapping[str, Counts] = field(default_factory=dict)
    findings: Sequence[Finding] = ()


def by_class(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Group samples by class, keeping order."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.cls, []).append(sample)
    return groups
