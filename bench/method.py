"""The contract of methods: configuration, encoder, what is trained and how a score is read off. Loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar, get_original_bases

from bench import protocol as protocols
from bench.batch import Batch
from bench.errors import UsageError
from bench.protocol import COMMON, SHARED, Protocol

if TYPE_CHECKING:
    import torch


def sourced(default: Any, source: str, help: str, **limits: Any) -> Any:
    """Return a pydantic field whose default cites where it comes from (paper section, official code, or ours)."""
    return Field(default, description=help, json_schema_extra={"source": source}, **limits)


class MethodConfig(BaseModel):
    """Base of a method's typed configuration: frozen, unknown keys refused, each default sourced."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    input_size: int | None
    """Side of the square network input in pixels; None lets the method choose for its encoder."""
    batch_size: int
    steps: int | None
    """Training iterations; 0 for methods that train nothing, None where they follow from the number of training images.
    See `Method.steps`. A method with a frozen encoder has a setting `encoder` beside these: its catalogue name."""


class MemoryConfig(MethodConfig):
    """Base of the configuration of a method that trains nothing."""

    steps: int = sourced(0, "nothing is trained", "training iterations", ge=0, le=0)
    batch_size: int = sourced(1, "nothing is trained", "without effect", gt=0)


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
    norm: bool = False
    """Whether the final norm of a ViT is put behind every requested block, and not the last one's output alone."""
    attention: bool = False
    """Whether the class token's attention in every requested block is wanted too: `BlockOutputs.attention`."""
    position: Literal["dinov2", "timm"] = "timm"
    """How position embeddings are resized to another grid: by the offset rule of DINO's and DINOv2's own code, or by
    timm's antialiased one."""


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """Shape facts of a built encoder; enough to build a method's trainable part, also on the meta device."""

    name: str
    family: Literal["vit", "cnn", "none"]
    """`none`: there is no encoder; only `input_size` means anything then."""
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


class BlockOutputs(dict[int, "torch.Tensor"]):
    """Outputs of an encoder's blocks by index: float [B, prefix + h*w, dim] (ViT) or [B, C, h, w] (CNN).

    Attributes:
        attention: by index how much the class token attends to each token, float [B, heads, prefix + h*w], which sums
            to 1 over these; empty unless it was requested.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.attention: dict[int, torch.Tensor] = {}


@dataclass(frozen=True, slots=True)
class Prediction:
    """Raw anomaly scores of a batch, higher = more anomalous, never normalised."""

    scores: torch.Tensor
    """[B], one image score each: float32, or another real type, which is kept as float64."""
    maps: torch.Tensor | None = None
    """[B, S, S] at the protocol's evaluation size, float32 or another real type, the same in every batch; None for
    image-level methods."""


@dataclass(frozen=True, slots=True)
class Released:
    """How the checkpoints that a method's authors hand out name their tensors; `bench import` reads them by it."""

    source: str
    """Where such files are from, for messages."""
    encoder: str
    """What stands before the names of the frozen encoder's tensors; these follow as its own authors or timm have it."""
    names: tuple[tuple[str, str], ...]
    """Regular expression of whole names of theirs -> what the method's module calls them (`\\1`: its first group)."""
    unused: str = "(?!)"
    """Regular expression of the names of tensors that take part in no score; by default of none."""


Need = Literal["features", "images", "classes", "trunk", "textures"]
NEEDS: tuple[Need, ...] = get_args(Need)

ConfigT = TypeVar("ConfigT", bound=MethodConfig, default=MethodConfig, covariant=True)
ModuleT = TypeVar("ModuleT", bound="torch.nn.Module", default=Any)


class Method(ABC, Generic[ConfigT, ModuleT]):
    """One anomaly-detection method, `Method[its configuration, its module]`; see `Trained` and `Memory`.

    Instances hold configuration only; weights live in the module they build.
    """

    name: ClassVar[str]
    Config: ClassVar[type[MethodConfig]]
    """Its configuration's class: the one that it is declared with, unless it says another."""
    family: ClassVar[str] = ""
    """One of `bench.families.FAMILIES`, or a kind of its own. Listing reads this, `encoders` and `needs` off the
    source, so each is a plain value in the class itself."""
    encoders: ClassVar[tuple[Literal["vit", "cnn"], ...]] = ("vit", "cnn")
    """Kinds of frozen encoder that it can look through; none where it has no encoder."""
    needs: Set[Need] = frozenset({"features"})
    """What of the images it is handed: `features` of the frozen encoder, which are computed once and kept; `images`
    themselves, for what it augments or encodes on its own; `classes`, their names, at test time too, which a record
    then says; `textures` to paint defects with. With `trunk`, `build` is also handed a trainable copy of the encoder up
    to its last requested block. A configuration may need less than its class, and then sets its own in `__init__`."""
    paper: ClassVar[Protocol] = COMMON
    """The published recipe: what `--protocol paper` means for this method."""
    semantic_paper: ClassVar[Protocol | None] = None
    """The same on semantic sets, where the paper treats them otherwise."""
    variant_papers: ClassVar[Mapping[str, Protocol]] = {}
    """The same by value of a setting `variant`, for those of another recipe than `paper`."""
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Config values that the paper sets for a dataset (`realiad`), a setting on every dataset (`single`) or both
    (`realiad/single`): that name -> key -> value; a later kind in this row wins."""
    released: ClassVar[Released | None] = None
    """How the authors' released checkpoints name their tensors; None where there are none, or none that are known."""
    clip_norm: float | None = None
    """Global gradient-norm clip over all trainable parameters."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in get_original_bases(cls):
            declared = [one for one in get_args(base) if isinstance(one, type) and issubclass(one, MethodConfig)]
            if declared and "Config" not in vars(cls):
                cls.Config = declared[0]

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and type(self) is type(other) and self.config == other.config

    def __hash__(self) -> int:
        # a plug-in's setting may be a list
        return hash((type(self), self.config.model_dump_json()))

    @property
    def revision(self) -> str:
        """What this configuration computes otherwise than the same settings once did, in words; empty for nearly all.

        It is part of a cell's fingerprint: a record of the older computation is not taken for one of this.
        """
        return ""

    @property
    def note(self) -> str:
        """What readers of this configuration's scores have to know of it; records carry it, tables as a footnote."""
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

    def encoder(self) -> EncoderRequest | None:
        """Return which encoder, blocks and input size this configuration needs; None where it needs no encoder.

        Raises:
            UsageError: the encoder does not fit the method; the message names what fits.
        """
        return None

    def features(self, blocks: Mapping[int, torch.Tensor], info: EncoderInfo) -> dict[str, torch.Tensor]:
        """Reduce the encoder's block outputs to what `loss` and `anomaly` need. Pure; called without gradient.

        A method without an encoder needs none.

        Args:
            blocks: block index -> float [B, prefix + h*w, dim] (ViT) or [B, C, h, w] (CNN). The harness
                hands `BlockOutputs`.
            info: the encoder's shape.

        Returns:
            Named tensors, batch first. The feature store keeps exactly these.
        """
        raise NotImplementedError(f"{self.name} has an encoder, and does not say what it needs of its blocks")

    @abstractmethod
    def build(self, info: EncoderInfo) -> ModuleT:
        """Return the trainable part, freshly initialised from torch's global generator (seeded by the harness).

        A method that needs the `trunk` takes it as one parameter more: `build(self, info, trunk)`, a module from images
        in [0, 1] to {block: output}, with gradient (`bench.encoders.frozen.Trunk`).
        """

    def fit(self, module: ModuleT, batches: Iterable[Batch]) -> None:
        """Take in the training images once, before any step; methods without a memory do nothing.

        Args:
            module: as `build` returns it, on its device; what is remembered goes into its buffers.
            batches: all training images, each once, in the task's order, batch first, without gradient.
        """

    def phases(self) -> tuple[int, ...]:
        """Return the iterations, ascending, before which `enter` looks at the training images; asked of `settled`."""
        return ()

    def enter(self, module: ModuleT, batches: Iterable[Batch]) -> None:
        """Look at the training images where a phase of the training begins: what it needs of the phase before it.

        Args:
            module: as trained so far, in evaluation mode; what is found goes into its buffers.
            batches: as for `fit`; they draw nothing at random.
        """

    def finish(self, module: ModuleT, batches: Iterable[Batch]) -> None:
        """Look at the training images once more when the last step is done: statistics, quantiles, a threshold.

        Args:
            module: as trained, in evaluation mode; what is found goes into its buffers.
            batches: as for `fit`.
        """

    def loss(self, module: ModuleT, batch: Batch, step: int) -> torch.Tensor:
        """Return the scalar training loss of a batch of normal images at iteration `step` (from 0)."""
        raise self._untrained()

    def losses(self, module: ModuleT, batch: Batch, step: int) -> Iterator[torch.Tensor]:
        """Yield the losses of a batch, each of which is one update of the weights: `loss` alone by default.

        For recipes that take several updates in a batch. The next is asked for when the weights are updated. Costs are
        counted by `loss`.
        """
        yield self.loss(module, batch, step)

    @abstractmethod
    def anomaly(self, module: ModuleT, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Score a batch; maps come at `size` x `size` pixels, covering the network's input."""

    def optimizer(self, module: ModuleT) -> torch.optim.Optimizer:
        """Return the optimizer over the trainable part."""
        raise self._untrained()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate used at iteration `step` (from 0).

        A parameter group of the optimizer with a value `lr_scale` takes that many times it, one with an `lr` of its own
        as many times as that is the optimizer's `lr`, and every other group takes it as it is.
        """
        return 0.0

    def _untrained(self) -> UsageError:
        return UsageError(f"{self.name} trains nothing. Expected {self.name}.steps = 0")

    def remedy(self) -> str:
        """Return what the authors advise where the loss is not finite (`--set ...`); empty where they say nothing."""
        return ""


class Trained(Method[ConfigT, ModuleT]):
    """A method that is trained step by step."""

    @abstractmethod
    def loss(self, module: ModuleT, batch: Batch, step: int) -> torch.Tensor:
        """See `Method.loss`."""

    @abstractmethod
    def optimizer(self, module: ModuleT) -> torch.optim.Optimizer:
        """See `Method.optimizer`."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """See `Method.learning_rate`."""


class Memory(Method[ConfigT, ModuleT]):
    """A method that remembers normal images and trains nothing; its configuration is a `MemoryConfig`."""

    @abstractmethod
    def fit(self, module: ModuleT, batches: Iterable[Batch]) -> None:
        """See `Method.fit`."""


def resolve(
    name: str, method: type[Method], kind: Literal["industrial", "semantic", "auxiliary"], variant: str = ""
) -> Protocol:
    """Return the protocol called `name` for a method on such a dataset, and under such a value of its `variant`.

    Raises:
        UsageError: there is no such protocol.
    """
    protocols.check(name)
    if name in SHARED:
        return SHARED[name]
    if variant in method.variant_papers:
        return method.variant_papers[variant]
    return method.semantic_paper or method.paper if kind == "semantic" else method.paper
