"""Muon for the matrices of a model and AdamW for the rest, as one optimizer that saves and resumes."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer


class MuonWithAdamW(Optimizer):  # type: ignore[misc]
    """PyTorch's ``Muon`` where a group says ``use_muon``, ``AdamW`` where it does not.

    Muon's updates are scaled to the size of AdamW's (``match_rms_adamw``, arXiv:2502.16982), so that one learning
    rate serves both.

    Args:
        params: groups, each with ``use_muon``; those with it hold matrices only.
        lr, weight_decay: for groups that do not bring their own.
        momentum, nesterov, ns_steps, adjust_lr_fn: Muon's.
        betas, eps: AdamW's.

    Raises:
        ValueError: a parameter under ``use_muon`` is not a matrix.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "use_muon": False})
        self._muon_options = {
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        self._adamw_options = {"betas": betas, "eps": eps}
        self._parts: list[Optimizer] = []
        self._join()

    def _join(self) -> None:
        """(Re)build the two optimizers on this one's groups and state, which they share: a schedule acts on both."""
        self._parts = []
        makers: list[tuple[bool, Any, dict[str, Any]]]
        makers = [(True, Muon, self._muon_options), (False, AdamW, self._adamw_options)]
        for use_muon, make, options in makers:
            groups = [group for group in self.param_groups if group["use_muon"] is use_muon]
            if groups:
                part = make(groups, **options)  # fills in its defaults, in copies of the groups
                for mine, its in zip(groups, part.param_groups, strict=True):
                    mine.update(its)
                part.param_groups = groups
                part.state = self.state
                self._parts.append(part)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._join()
