"""StableAdamW: AdamW whose step shrinks when a tensor's update is larger than its second moment expects.

M. Wortsman et al., "Stable and low-precision training for large-scale vision-language models", NeurIPS 2023,
arXiv 2304.13013, in the AMSGrad form that Dinomaly's official code uses: the update that is measured is the gradient
over the AMSGrad denominator, after the moments have taken in the gradient.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class StableAdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay, AMSGrad and per-tensor update clipping.

    Args:
        params: parameters or parameter groups; weight decay acts on all of them, biases and norms included.
        lr: learning rate.
        betas: decay of the first and second moment.
        eps: added to the denominator.
        weight_decay: decoupled, multiplied by the learning rate.
        amsgrad: use the running maximum of the second moment, taken before bias correction.
        clip: update RMS above which a tensor's step is divided by RMS / clip.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = True,
        clip: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "clip": clip,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; parameters without gradient keep their value and their state."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_age: dict[int, list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(param)
                    state["exp_avg_sq"] = torch.zeros_like(param)
                    if group["amsgrad"]:
                        state["max_exp_avg_sq"] = torch.zeros_like(param)
                state["step"] += 1
                by_age[state["step"]].append(param)
            for age, params in by_age.items():
                self._update(params, group, age)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any], age: int) -> None:
        """Update parameters that have all taken `age` steps, this one included; nothing waits for the device.

        With c = sqrt(1 - beta2^age), d = c (sqrt(v) / c + eps) is what the second moment is divided by, less one pass
        over memory: the update's RMS is c |grad / d| / sqrt(n), and the step c lr / (1 - beta1^age) m / d.
        """
        beta1, beta2 = group["betas"]
        grads = [param.grad for param in params if param.grad is not None]
        first = [self.state[param]["exp_avg"] for param in params]
        second = [self.state[param]["exp_avg_sq"] for param in params]

        torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(first, grads, 1.0 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1.0 - beta2)
        if group["amsgrad"]:
            largest = [self.state[param]["max_exp_avg_sq"] for param in params]
            torch._foreach_maximum_(largest, second)
            second = largest

        correction = math.sqrt(1.0 - beta2**age)
        denominators = torch._foreach_sqrt(second)
        torch._foreach_add_(denominators, group["eps"] * correction)
        shrink = torch._foreach_norm(torch._foreach_div(grads, denominators))
        scales = [correction / (math.sqrt(max(param.numel(), 1)) * group["clip"]) for param in params]
        torch._foreach_mul_(shrink, scales)
        torch._foreach_clamp_min_(shrink, 1.0)
        torch._foreach_mul_(denominators, shrink)
        torch._foreach_addcdiv_(params, first, denominators, -group["lr"] * correction / (1.0 - beta1**age))
