"""Lazy registries: names to `module:attribute` strings and entry points, resolved on first use.

Listing imports nothing: the one-line summaries are read from the modules' source. A third party adds a method, a
dataset or a metric with an entry point in the group `bench.methods`, `bench.datasets` or `bench.metrics`, or from one
file, see `bench.plugins`.
"""

from __future__ import annotations

import ast
import difflib
import gc
import importlib
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import entry_points
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.api import Dataset, Method
    from bench.metrics.metric import Metric

T = TypeVar("T")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


@dataclass
class Registry(Generic[T]):
    """Classes of one kind by name."""

    kind: str
    base: str
    """`module:class` that every entry must derive from; resolved with the first entry."""
    builtin: dict[str, str]
    group: str
    told_by: Literal["module", "class"] = "module"
    """Whose docstring's first line is an entry's summary."""
    _loaded: dict[str, type[T]] = field(default_factory=dict)

    @cached_property
    def targets(self) -> dict[str, str]:
        """Every name with its `module:attribute`. A plug-in cannot take a built-in name."""
        found = {point.name: point.value for point in entry_points(group=self.group)}
        return found | self.builtin

    def names(self) -> list[str]:
        """Return all names, built-in ones first."""
        return [*self.builtin, *sorted(set(self.targets) - set(self.builtin))]

    def add(self, name: str, target: str) -> None:
        """Register a class for as long as the process runs, see `bench.plugins`.

        Raises:
            UsageError: the name is taken by something else.
        """
        known = self.targets.get(name)
        if known not in (None, target):
            raise UsageError(f"{self.kind} '{name}' is there already ({known}). Expected another name")
        self.targets[name] = target

    def put(self, name: str, target: str, kind: type[T]) -> None:
        """Register a class that was made as the process runs; `target` says where its base is."""
        self.targets[name] = target
        self._loaded[name] = kind

    def check(self, name: str) -> None:
        """Raise UsageError, with the nearest name, unless `name` is known; nothing is imported."""
        if name not in self.targets:
            raise UsageError(
                f"unknown {self.kind} '{name}'.{did_you_mean(name, self.targets)} "
                f"Known: {', '.join(self.names())}. See: bench ls {self.kind}s"
            )

    def load(self, name: str) -> type[T]:
        """Import and return the class called `name`.

        Raises:
            UsageError: no such name, or what it points to cannot be imported or is of another kind.
        """
        if name in self._loaded:
            return self._loaded[name]
        self.check(name)
        module, attribute = self._target(name)
        try:
            found = importlib.import_module(module)
        except Exception as error:
            # whatever a plug-in raises while it is imported, it is the plug-in that cannot be used
            absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
            if absent and module.startswith("bench."):
                why = "which is not installed. In a checkout run: pip install -e ."
            else:
                why = f"which cannot be imported ({type(error).__name__}: {error}). Traceback: --debug"
            raise UsageError(f"{self.kind} '{name}' lives in {module}, {why}") from error
        try:
            loaded: Any = attrgetter(attribute)(found)
        except AttributeError as error:
            raise UsageError(f"{self.kind} '{name}' points to {self.targets[name]}, which does not exist") from error
        where, _, kind = self.base.partition(":")
        base = getattr(importlib.import_module(where), kind)
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise UsageError(f"{self.kind} '{name}': {self.targets[name]} is no {where}.{kind}")
        self._loaded[name] = loaded
        return loaded

    def origin(self, name: str) -> Path:
        """Return the file that `name` is defined in, importing nothing. Raises ImportError where there is none."""
        return Path(_origin(self._target(name)[0]))

    def summary(self, name: str) -> str:
        """Return the first line of the docstring, as `docstring` does."""
        return self.docstring(name).partition("\n")[0]

    def docstring(self, name: str) -> str:
        """Return the docstring, importing neither the module nor the package around it."""
        module, attribute = self._target(name)
        try:
            path = self.origin(name)
            tree = _class(parsed(path), attribute) if self.told_by == "class" else _opening(path) or parsed(path)
            return ast.get_docstring(tree) or ""
        except (ImportError, OSError, SyntaxError, ValueError, StopIteration, TypeError):
            return f"(not importable: {module})"

    def stated(self, name: str, attribute: str) -> Any:
        """Return the plain value that a class gives an attribute in its own body, importing nothing.

        Returns:
            A string, number, tuple, list, dict, or a set for `frozenset({...})`; None where there is none, or none that
            can be read.
        """
        _, kind = self._target(name)
        try:
            path = self.origin(name)
            top, beyond = _top_of_class(path, kind)
            if top is None or re.search(rf"^    {re.escape(attribute)}\b", beyond, re.MULTILINE):
                top = _class(parsed(path), kind)
            for node in top.body:
                targets: list[Any] = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                if [getattr(target, "id", "") for target in targets] == [attribute]:
                    value: Any = getattr(node, "value", None)
                    called = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "frozenset"
                    return ast.literal_eval(value.args[0] if called else value)
        except (ImportError, OSError, SyntaxError, ValueError, StopIteration, TypeError, IndexError):
            pass
        return None

    def _target(self, name: str) -> tuple[str, str]:
        """Return module and attribute; an entry point may ask for extras in brackets behind them."""
        module, _, attribute = self.targets[name].partition("[")[0].partition(":")
        return module.strip(), attribute.strip()


def _opening(path: Path) -> ast.Module | None:
    """Return the tree of what stands before a module's first import; None where it cannot be told from the rest."""
    opening, found, _ = path.read_text(encoding="utf-8").partition("\nfrom __future__ import ")
    with suppress(SyntaxError, ValueError):
        return ast.parse(opening) if found else None
    return None


@cache
def _top_of_class(path: Path, kind: str) -> tuple[ast.ClassDef | None, str]:
    """Return a class up to its first method, a tenth of the work of reading all, and what follows in the source.

    There is no class where it cannot be told from the rest.
    """
    source = path.read_text(encoding="utf-8")
    until = r"(?=^    (?:@|def |async )|^\S|\Z)"
    found = re.search(rf"^class {re.escape(kind)}\b.*?{until}", source, re.MULTILINE | re.DOTALL)
    if found is not None:
        with suppress(SyntaxError, ValueError):
            (node,) = ast.parse(found[0]).body
            if isinstance(node, ast.ClassDef):
                return node, source[found.end() :]
    return None, source


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a source file, which is not executed."""
    collects = gc.isenabled()
    # all of the tree stays: to look for garbage in it again and again takes as long as to make it
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if collects:
            gc.enable()


def _class(tree: ast.AST, name: str) -> ast.ClassDef:
    """Return the class of that name. Raises StopIteration where there is none."""
    # nearly all stand at the top: the whole tree costs as much to walk as to make
    nodes = chain(ast.iter_child_nodes(tree), ast.walk(tree))
    return next(node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name)


def _origin(module: str) -> str:
    """Return the file that a module would be loaded from; `importlib.util.find_spec` would import its package."""
    if (loaded := getattr(sys.modules.get(module), "__file__", None)) is not None:
        return str(loaded)
    path: Sequence[str] | None = None
    origin = None
    parts = module.split(".")
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            raise ModuleNotFoundError(f"no module {name}", name=name)
        origin, path = spec.origin, spec.submodule_search_locations
    if origin is None:
        raise ImportError(f"{module} is a folder without __init__.py", name=module)
    return origin


METHODS: Registry[Method] = Registry(
    kind="method",
    base="bench.api:Method",
    builtin={
        "dinomaly": "bench.methods.dinomaly:Dinomaly",
        "dinomaly2": "bench.methods.dinomaly2:Dinomaly2",
        "inp_former": "bench.methods.inp_former:INPFormer",
        "dual_student": "bench.methods.dual_student:DualStudent",
        "vitad": "bench.methods.vitad:ViTAD",
        "rd4ad": "bench.methods.rd4ad:RD4AD",
        "rdpp": "bench.methods.rdpp:RDPP",
        "recontrast": "bench.methods.recontrast:ReContrast",
        "invad": "bench.methods.invad:InvAD",
        "uniad": "bench.methods.uniad:UniAD",
        "simplenet": "bench.methods.simplenet:SimpleNet",
        "draem": "bench.methods.draem:DRAEM",
        "destseg": "bench.methods.destseg:DeSTSeg",
        "efficientad": "bench.methods.efficientad:EfficientAD",
        "realnet": "bench.methods.realnet:RealNet",
        "generalad": "bench.methods.generalad:GeneralAD",
        "knn": "bench.methods.knn:KNN",
        "panda": "bench.methods.panda:PANDA",
        "msc": "bench.methods.msc:MSC",
        "transformaly": "bench.methods.transformaly:Transformaly",
        "patchcore": "bench.methods.patchcore:PatchCore",
        "anomalydino": "bench.methods.anomalydino:AnomalyDINO",
        "rad": "bench.methods.rad:RAD",
        "cflow": "bench.methods.cflow:CFlow",
        "uniformaly": "bench.methods.uniformaly:UniFormaly",
        "subspacead": "bench.methods.subspacead:SubspaceAD",
    },
    group="bench.methods",
)

DATASETS: Registry[Dataset] = Registry(
    kind="dataset",
    base="bench.api:Dataset",
    builtin={
        "mvtec": "bench.datasets.mvtec:MVTec",
        "mvtec_ad2": "bench.datasets.mvtec_ad2:MVTecAD2",
        "mvtec_loco": "bench.datasets.mvtec_loco:MVTecLoco",
        "visa": "bench.datasets.visa:VisA",
        "realiad": "bench.datasets.realiad:RealIAD",
        "realiad_sv": "bench.datasets.realiad_splits:SingleView",
        "realiad_fuiad_0": "bench.datasets.realiad_splits:Noisy0",
        "realiad_fuiad_0.1": "bench.datasets.realiad_splits:Noisy10",
        "realiad_fuiad_0.2": "bench.datasets.realiad_splits:Noisy20",
        "realiad_fuiad_0.4": "bench.datasets.realiad_splits:Noisy40",
        "realiad_variety": "bench.datasets.realiad_variety:RealIADVariety",
        "realiad_challenge": "bench.datasets.realiad_challenge:RealIADChallenge",
        "autovi": "bench.datasets.autovi:AutoVI",
        "vad": "bench.datasets.vad:VAD",
        "goodsad": "bench.datasets.goodsad:GoodsAD",
        "3cad": "bench.datasets.threecad:ThreeCAD",
        "bmad": "bench.datasets.bmad:BMAD",
        "uni_medical": "bench.datasets.uni_medical:UniMedical",
        "mpdd": "bench.datasets.mpdd:MPDD",
        "dtd": "bench.datasets.dtd:DTD",
        "btad": "bench.datasets.btad:BTAD",
        "cifar10": "bench.datasets.cifar10:Cifar10",
        "cifar100": "bench.datasets.cifar100:Cifar100",
        "fmnist": "bench.datasets.fmnist:FashionMNIST",
        "view": "bench.datasets.view:View",
        "folder": "bench.datasets.folder:Folder",
        "demo": "bench.datasets.demo:Demo",
    },
    group="bench.datasets",
)

METRICS: Registry[Metric] = Registry(
    kind="metric",
    base="bench.metrics.metric:Metric",
    builtin={
        "image/auroc": "bench.metrics.exact:ImageAuroc",
        "image/ap": "bench.metrics.exact:ImageAp",
        "image/f1max": "bench.metrics.exact:ImageF1Max",
        "pixel/auroc": "bench.metrics.exact:PixelAuroc",
        "pixel/ap": "bench.metrics.exact:PixelAp",
        "pixel/f1max": "bench.metrics.exact:PixelF1Max",
        "pixel/aupro": "bench.metrics.exact:Aupro",
        "mad": "bench.metrics.exact:Mad",
        "sample/auroc": "bench.metrics.exact:SampleAuroc",
        "sample/ap": "bench.metrics.exact:SampleAp",
        "sample/f1max": "bench.metrics.exact:SampleF1Max",
        "pixel/auspro": "bench.metrics.exact:Auspro",
        "image/fpr": "bench.metrics.exact:ImageFpr",
        "pixel/fpr": "bench.metrics.exact:PixelFpr",
        "sample/fpr": "bench.metrics.exact:SampleFpr",
        "pixel/ioumax": "bench.metrics.exact:PixelIouMax",
        "image/mad": "bench.metrics.exact:ImageMad",
        "pixel/mad": "bench.metrics.exact:PixelMad",
        "pixel/aupro:grid200": "bench.metrics.named:AuproGrid200",
        "pixel/aupro:grid100": "bench.metrics.named:AuproGrid100",
        "pixel/aupro:image200": "bench.metrics.named:AuproImage200",
        "pixel/aupro:ranks100": "bench.metrics.named:AuproRanks100",
        "pixel/auroc:adeval": "bench.metrics.named:AurocAdeval",
        "pixel/ap:adeval": "bench.metrics.named:ApAdeval",
        "pixel/aupro:adeval": "bench.metrics.named:AuproAdeval",
        "pixel/auroc:adeval200": "bench.metrics.named:AurocAdeval200",
        "pixel/ap:adeval200": "bench.metrics.named:ApAdeval200",
        "pixel/aupro:adeval200": "bench.metrics.named:AuproAdeval200",
        "pixel/auroc:adeval50": "bench.metrics.named:AurocAdeval50",
        "pixel/ap:adeval50": "bench.metrics.named:ApAdeval50",
        "pixel/aupro:adeval50": "bench.metrics.named:AuproAdeval50",
        "pixel/f1max:grid21": "bench.metrics.named:F1MaxGrid21",
        "pixel/ioumax:grid21": "bench.metrics.named:IouMaxGrid21",
        "pixel/f1:grid7": "bench.metrics.named:F1Grid7",
        "pixel/acc:grid7": "bench.metrics.named:AccGrid7",
        "pixel/iou:grid7": "bench.metrics.named:IouGrid7",
    },
    group="bench.metrics",
    told_by="class",
)
"""By id without its parameter: pixel/aupro stands for pixel/aupro@0.3 and every other limit."""
