"""Some ways to train change the base; what is saved at the end is a LoRA on the base as everybody has it.

PiSSA and OLoRA leave W - s B0 A0 in the base and train B A from B0 A0; ReLoRA adds s B1 A1, s B2 A2, ... to it on the
way. W - s B0 A0 + s B A = W + s [B, -B0] [A; A0] is a LoRA of twice the rank: serving and merging need not repeat what
was done to the base. PEFT calls this weight conversion; PiSSA is arXiv:2404.02948, OLoRA arXiv:2406.01775.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAKEN_FROM_THE_BASE = ("pissa", "olora")
_ATTRIBUTE = "ftl_changes_of_the_base"

Weights = dict[str, Any]
"""An adapter's A and B, by PEFT's names, in CPU memory."""


@dataclass(frozen=True)
class Change:
    """An adapter that was added to the base (``sign`` 1) or taken from it (-1)."""

    weights: Weights
    sign: int


def changes_of(model: Any) -> list[Change]:
    """What was done to the base of this model, oldest first."""
    if not hasattr(model, _ATTRIBUTE):
        setattr(model, _ATTRIBUTE, [])
    return getattr(model, _ATTRIBUTE)  # type: ignore[no-any-return]


def adapter_weights(model: Any) -> Weights:
    """A copy of the adapter, full modules trained beside it left out."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model)
    return {name: tensor.detach().cpu().clone() for name, tensor in found.items() if "lora_" in name}


def remember_start(model: Any) -> None:
    """Note the adapter's first weights where the start took them from the base."""
    start = model.peft_config["default"].init_lora_weights
    if isinstance(start, str) and start.startswith(_TAKEN_FROM_THE_BASE):
        changes_of(model).append(Change(adapter_weights(model), -1))


def write_plain_lora(model: Any, folder: Path) -> None:
    """Turn the adapter saved in ``folder`` into a plain LoRA; does nothing where the base was left alone."""
    from safetensors.torch import load_file, save_file

    changes = changes_of(model)
    weights_file, config_file = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if not changes or not weights_file.is_file():
        return
    weights = {name: _join(name, tensor, changes) for name, tensor in load_file(weights_file).items()}
    save_file(weights, weights_file, metadata={"format": "pt"})
    settings, times = json.loads(config_file.read_text(encoding="utf-8")), 1 + len(changes)
    settings["init_lora_weights"] = True
    settings["r"] *= times
    # The scale alpha / r, or alpha / sqrt(r), has to stay.
    growth = times**0.5 if settings["use_rslora"] else times
    settings["lora_alpha"] *= growth
    settings["rank_pattern"] = {key: times * value for key, value in (settings["rank_pattern"] or {}).items()}
    settings["alpha_pattern"] = {key: growth * value for key, value in (settings["alpha_pattern"] or {}).items()}
    config_file.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _join(name: str, trained: Any, changes: list[Change]) -> Any:
    import torch

    if "lora_A" in name:
        return torch.cat([trained, *(change.weights[name].to(trained) for change in changes)], dim=0).contiguous()
    if "lora_B" in name:
        parts = (change.sign * change.weights[name].to(trained) for change in changes)
        return torch.cat([trained, *parts], dim=1).contiguous()
    return trained
