"""Dual student: Generalist Multi-Class Anomaly Detection via Distillation to Two Heterogeneous Student Networks.

Hangil Park, Yongmin Seo, Tae-Kyun Kim. NeurIPS 2025, arXiv 2509.24448. No official code was found; the formulas are
reconstructed from the paper's sentences about them. Sections are the paper's; "Dinomaly" is arXiv 2405.14325 and its
code, as in dinomaly.py.

One frozen teacher, two students. The decoder student is Dinomaly's and sees local defects. The encoder student has the
teacher's architecture, starts from scratch on the teacher's own token embedding, and learns the teacher's class tokens:
it sees what an image is of. An image is normal if one of them finds it so (Noisy-OR); training maximises that
probability on normal images, and the score is its complement.

With discrepancies s_E, s_D >= 0 of an image and p = exp(-s): P(normal) = 1 - (1 - p_E)(1 - p_D), loss -log P averaged
over the batch, score 1 - P. In training s_E is the mean squared difference over all class tokens (equation 2) and s_D
Dinomaly's loss (equation 1); in the score s_E takes the last class token alone and s_D is Dinomaly's image score. Maps
are the decoder student's.

Not stated in the paper, chosen here (settings in brackets):
- p = exp(-s), without a factor before s_E [encoder_weight]; 1 - s would leave [0, 1].
- Class tokens are compared as they are where the teacher is a DINOv2, else each brought to mean 0 and variance 1 first
  [class_tokens]. The encoder student's gradient is (1 - p_D) p_E / P times that of s_E (equation 3): where the tokens
  of a teacher are large, p_E is 0 and it never moves. The embedded encoder's have mean squares of 12 to 370, s_E starts
  at 133, exp(-133) is 0 in float32, and what is trained is Dinomaly; normed, s_E starts at 2.4. A training that would
  start so stops at once.
- Each student slows the other: with s_E and s_D near 0.05, (1 - p_D) p_E / P is near 0.05. AMSGrad, which remembers the
  first steps' gradients, then takes small steps; the paper trains five times as long as Dinomaly's.
- The last class token is the one after the final norm, and the encoder student has such a norm of its own, so that
  m = blocks + 1 [final_norm]. Without: m = blocks, raw outputs only, 233,081,856 parameters instead of 233,083,392
  (ViT-S: 58,738,176 instead of 58,738,944). The published 233.1 M and 58.7 M cannot tell them apart, but they rule out
  a student with an embedding of its own, and LayerScale fits them either way [layer_scale]. It starts at 1 here;
  DINOv2's own 1e-5 would keep a network that starts from scratch near the identity for long.
- Initial Linear weights and LayerNorm epsilon are DINOv2's [student_init_std, student_norm_eps]; no drop path.
- s_D in the score is the mean of the map's highest pixels [local_score].
- Hard mining stays in the decoder student's loss, which leaves s_D's value alone [hard_mining].
- Without Noisy-OR the paper's table 3 sums what it joins, by one switch for score and loss, as we read it. Here each
  has a switch of its own, of which the suite sets both [ensemble, objective].
- On semantic sets the paper resizes "and center-crops" to 392: taken as resized to 392, of which the crop leaves all.
- Schedule, warm-up and gradient clip are Dinomaly's [final_lr, warmup, clip_norm]; on semantic datasets the final
  learning rate is a tenth of the peak, as in Dinomaly. One optimizer and one clip over both students.

The ablation of table 3 is `students`, `score_tokens`, and `objective` with `ensemble`; distilling patch tokens (table
11) is not offered: it would keep every block's every token of every training image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, sourced
from bench.encoders import catalog
from bench.errors import TrainingError, UsageError

from . import dinomaly
from ._groups import Beta
from ._reconstruction import Reconstructor
from ._switches import refuse_idle
from ._vit import Block, SoftmaxAttention, init_truncated

OURS = "not stated; ours"
WEIGHT_CUT = 2.0
"""Largest initial weight, as DINOv2's truncated normal has it: a hundred standard deviations."""
LOST = 20.0
"""s_E beyond which p_E, and so the encoder student's gradient, is below what float32 and StableAdamW resolve."""


class Config(dinomaly.Config):
    """Dual student's settings; those not named here are Dinomaly's."""

    encoder: str = sourced("vit_base_patch14_reg4_dinov2.lvd142m", "appendix D", "frozen teacher, by timm name")
    students: Literal["both", "encoder", "decoder"] = sourced(
        "both", "section 3.1, table 3", "which students there are"
    )
    objective: Literal["noisy_or", "sum"] = sourced(
        "noisy_or", "section 3.4, table 3", "training: -log P(normal), or the sum of the students' losses"
    )
    ensemble: Literal["noisy_or", "sum"] = sourced(
        "noisy_or", "section 3.5, table 3", "score: 1 - P(normal), or the sum of the students' scores"
    )
    score_tokens: Literal["last", "all"] = sourced(
        "last", "section 3.5, table 3", "class tokens that the encoder student's score is read off"
    )
    local_score: Literal["map", "loss"] = sourced(
        "map", OURS, "decoder student's score: mean of the map's highest pixels, or its loss of the image"
    )
    class_tokens: Literal["auto", "raw", "normed"] = sourced(
        "auto", OURS, "compared as they are, or each with mean 0 and variance 1; auto = raw for DINOv2 encoders only"
    )
    encoder_weight: float = sourced(1.0, OURS, "factor before the encoder student's mean squared difference", gt=0)
    final_norm: bool = sourced(True, OURS, "the last class token is normed, by a norm of the student's own")
    layer_scale: float | None = sourced(1.0, OURS, "initial LayerScale of the encoder student; null = no LayerScale")
    student_norm_eps: float = sourced(1e-6, "DINOv2", "epsilon of the encoder student's LayerNorms", gt=0)
    student_init_std: float = sourced(0.02, "DINOv2", "standard deviation of its initial Linear weights", gt=0)
    dropout: float = sourced(0.2, "appendix D", "noisy bottleneck's dropout; 0 = noiseless", ge=0, lt=1)
    mlp_ratio: float = sourced(4.0, "section 3.3, Dinomaly's code", "hidden width over width, both students", gt=0)
    steps: int = sourced(50_000, "appendix D (industrial, multi-class)", "training iterations", ge=0)
    batch_size: int = sourced(8, "appendix D", "images a step", gt=0)
    lr: float = sourced(2e-3, "appendix D (industrial)", "peak learning rate", gt=0)
    weight_decay: float = sourced(1e-4, "appendix D", "decoupled, on every trainable tensor", ge=0)
    betas: tuple[Beta, Beta] = sourced((0.9, 0.999), "appendix D", "decay of StableAdamW's moments")
    eps: float = sourced(1e-10, "appendix D", "StableAdamW's epsilon", gt=0)
    amsgrad: bool = sourced(True, "appendix D", "use the running maximum of the second moment")


class EncoderStudent(nn.Module):
    """The teacher's blocks, untrained; the embedded sequence that enters them is the teacher's."""

    def __init__(self, config: Config, info: EncoderInfo) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(
                info.dim,
                SoftmaxAttention(info.dim, info.heads),
                mlp_ratio=config.mlp_ratio,
                norm_eps=config.student_norm_eps,
                layer_scale=config.layer_scale,
            )
            for _ in range(info.depth)
        )
        self.norm = nn.LayerNorm(info.dim, eps=config.student_norm_eps) if config.final_norm else None
        init_truncated(self, std=config.student_init_std, cut=WEIGHT_CUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the class tokens after each block and, with a final norm, the last one normed.

        Args:
            tokens: [B, prefix + h*w, dim], class token first.

        Returns:
            [B, m, dim].
        """
        found = []
        for block in self.blocks:
            tokens = block(tokens)
            found.append(tokens[:, 0])
        if self.norm is not None:
            found.append(self.norm(tokens[:, 0]))
        return torch.stack(found, dim=1)


class Students(nn.Module):
    """Trainable part: one or both students."""

    encoder: EncoderStudent | None
    decoder: Reconstructor | None

    def __init__(self, encoder: EncoderStudent | None, decoder: Reconstructor | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


class DualStudent(dinomaly.Reconstruction[Config, Students]):
    """Dinomaly with an encoder student beside it that learns class tokens, joined by Noisy-OR."""

    name = "dual_student"
    family = "distillation"
    encoders = ("vit",)
    paper = replace(dinomaly.Dinomaly.paper, name="paper:dual_student")
    semantic_paper = replace(paper, crop=1.0)
    # appendix D
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "single": {"steps": 5_000},
        "realiad": {"dropout": 0.4},
        "cifar10": {"lr": 1e-4, "final_lr": 1e-5, "steps": 82_500},
        **{name: {"lr": 1e-4, "final_lr": 1e-5, "steps": 62_500} for name in ("cifar100", "fmnist", "view")},
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.normed = self.config.class_tokens == "normed" or (
            self.config.class_tokens == "auto" and "dinov2" not in self.config.encoder
        )
        if self.config.students != "both":
            refuse_idle(self, ("objective", "ensemble"), f"students {self.config.students}")
        if self.config.students == "encoder":
            refuse_idle(self, ("local_score",), "students encoder")
        elif self.config.students == "decoder":
            refuse_idle(self, ("score_tokens", "class_tokens", "encoder_weight"), "students decoder")

    def encoder(self) -> EncoderRequest:
        """Return Dinomaly's request, with the teacher's embedding and every block for the encoder student."""
        wanted = super().encoder()
        if self.config.students == "decoder":
            return wanted
        if not catalog.has_class_token(wanted.name):
            raise UsageError(
                f"{self.name} learns class tokens, encoder '{wanted.name}' has none. "
                f"Try vit_base_patch14_reg4_dinov2.lvd142m, or --set {self.name}.students=decoder"
            )
        # with Dinomaly's own blocks, which every block would hide if they did not fit
        depth = catalog.describe(wanted.name, wanted.input_size, wanted.blocks).depth
        return replace(wanted, blocks=(-1, *range(self._tokens(depth))))

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return Dinomaly's features and the encoder student's, each where the student exists.

        The latter are `embedding` [B, prefix + h*w, dim], what enters the teacher's block 0, and `classes` [B, m, dim],
        its class tokens.
        """
        found = {} if self.config.students == "encoder" else super().features(blocks, info)
        if self.config.students != "decoder":
            found["embedding"] = blocks[-1]
            found["classes"] = torch.stack([blocks[index][:, 0] for index in range(self._tokens(info.depth))], dim=1)
        return found

    def build(self, info: EncoderInfo) -> Students:
        """Return the students, freshly initialised."""
        kinds, decoder, encoder = self.config.students, None, None
        if kinds != "encoder":
            decoder = Reconstructor(self.config, info, self.decoder_groups)
        if kinds != "decoder":
            encoder = EncoderStudent(self.config, info)
        return Students(encoder, decoder)

    def loss(self, module: Students, batch: Batch, step: int) -> Tensor:
        """Return -log P(normal) (or the sum of the discrepancies) averaged over the batch.

        Raises:
            TrainingError: at the first step the encoder student is so far off that Noisy-OR would never train it.
        """
        semantic = local = None
        if module.encoder is not None:
            semantic = self._semantic(module.encoder, batch, tokens="all")
        if module.decoder is not None:
            local = self._discrepancy(self._pairs(module.decoder, batch, step))
        if semantic is None or local is None:
            return _only(semantic, local).mean()
        if self.config.objective == "sum":
            return (semantic + local).mean()
        if step == 0 and not semantic.is_meta:  # costs are counted on the meta device, where no value is
            self._check_within_reach(semantic.detach())
        return noisy_or_loss(semantic, local).mean()

    def anomaly(self, module: Students, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return 1 - P(normal) (or the sum of the scores), and the decoder student's maps where there is one."""
        semantic = None
        if module.encoder is not None:
            semantic = self._semantic(module.encoder, batch, self.config.score_tokens).float()
        if module.decoder is None:
            return Prediction(scores=_only(semantic))
        pairs = self._pairs(module.decoder, batch)
        found = self._read_off(pairs, info, size)
        local = found.scores if self.config.local_score == "map" else self._discrepancy(pairs).float()
        if semantic is None:
            return Prediction(scores=local, maps=found.maps)
        join = noisy_or_score if self.config.ensemble == "noisy_or" else torch.add
        return Prediction(scores=join(semantic, local), maps=found.maps)

    def _tokens(self, depth: int) -> int:
        """Return m: one class token a block, and one behind the final norm (block index `depth`)."""
        return depth + self.config.final_norm

    def _check_within_reach(self, semantic: Tensor) -> None:
        if float(semantic.min()) > LOST:
            raise TrainingError(
                f"{self.name}: class tokens of encoder '{self.config.encoder}' are so large that the encoder student "
                f"is {float(semantic.mean()):.0f} off, and exp(-that) leaves it no gradient. Expected at most "
                f"{LOST:.0f}. Try --set {self.name}.class_tokens=normed, or a smaller {self.name}.encoder_weight"
            )

    def _semantic(self, student: EncoderStudent, features: Mapping[str, Tensor], tokens: str) -> Tensor:
        """Return [B], the weighted mean squared difference of the last class token or of all."""
        found, wanted = student(features["embedding"]), features["classes"]
        if self.normed:
            found, wanted = (F.layer_norm(tokens, tokens.shape[-1:]) for tokens in (found, wanted))
        squares = (found - wanted).square().mean(dim=-1)
        return self.config.encoder_weight * (squares[:, -1] if tokens == "last" else squares.mean(dim=1))


def _only(*discrepancies: Tensor | None) -> Tensor:
    """Return the discrepancy of the one student that there is."""
    (found,) = (one for one in discrepancies if one is not None)
    return found


def noisy_or_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return -log(1 - (1 - exp(-a))(1 - exp(-b))), to rounding exact in value and gradient wherever a, b >= 0.

    Where both are below 1, log1p of the product of the complements keeps all digits. Elsewhere that product may round
    to 1, and exp(-a) be lost beside 1; there P = exp(-low) (1 + exp(low - high)(1 - exp(-low))) is taken apart instead.
    """
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    # clamped, the branch that is not taken stays finite and sends no NaN back
    small = -torch.log1p(-noisy_or_score(a.clamp(max=1.0), b.clamp(max=1.0)))
    large = low - torch.log1p(-torch.exp(low - high) * torch.expm1(-low))
    return torch.where(high < 1.0, small, large)


def noisy_or_score(a: Tensor, b: Tensor) -> Tensor:
    """Return (1 - exp(-a))(1 - exp(-b)), in [0, 1], for a, b >= 0; near a * b where both are small."""
    return torch.expm1(-a) * torch.expm1(-b)
