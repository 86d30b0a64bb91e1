"""ADOPT: Adam that converges with any beta2 (arXiv:2411.02853, algorithm 2, with clipping)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class Adopt(Optimizer):  # type: ignore[misc]
    """ADOPT with decoupled weight decay.

    The gradient is divided by the second moment of the steps *before*, then averaged; the quotient is clipped to
    +-step^(1/4). The first step only sets the second moment.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay of the momentum and of the second moment.
        eps: smallest divisor.
        weight_decay: share of the weights taken away in a step, times ``lr``.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, group)
        return loss

    def _step_one(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = gradient.square()
            return
        beta1, beta2 = group["betas"]
        state["step"] += 1
        limit = state["step"].item() ** 0.25
        scaled = gradient / state["exp_avg_sq"].sqrt().clamp(min=group["eps"])
        state["exp_avg"].lerp_(scaled.clamp(-limit, limit), 1 - beta1)
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(state["exp_avg"], alpha=group["lr"])
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
