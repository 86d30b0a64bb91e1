"""PiSSA and OLoRA take the base's weights apart at the start; what is saved at the end is a LoRA on the whole base.

They leave W - s B0 A0 in the base and train B A from B0 A0. W - s B0 A0 + s B A = W + s [B, -B0] [A; A0] is a LoRA of
twice the rank on the base as everybody has it: serving and merging need not repeat the start. PEFT calls this weight
conversion; PiSSA is arXiv:2404.02948, OLoRA arXiv:2406.01775.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CHANGES_THE_BASE = ("pissa", "olora")
_ATTRIBUTE = "ftl_adapter_start"


def remember_start(model: Any) -> None:
    """Keep the adapter's first weights, in CPU memory, where the start changed the base."""
    from peft import get_peft_model_state_dict

    start = model.peft_config["default"].init_lora_weights
    if isinstance(start, str) and start.startswith(_CHANGES_THE_BASE):
        weights = {name: tensor.detach().cpu().clone() for name, tensor in get_peft_model_state_dict(model).items()}
        setattr(model, _ATTRIBUTE, weights)


def write_plain_lora(model: Any, folder: Path) -> None:
    """Turn the adapter saved in ``folder`` into a plain LoRA; does nothing where the start left the base alone."""
    from safetensors.torch import load_file, save_file

    start = getattr(model, _ATTRIBUTE, None)
    weights_file, config_file = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if start is None or not weights_file.is_file():
        return
    weights = {name: _join(name, tensor, start) for name, tensor in load_file(weights_file).items()}
    save_file(weights, weights_file, metadata={"format": "pt"})
    settings = json.loads(config_file.read_text(encoding="utf-8"))
    settings["init_lora_weights"] = True
    settings["r"] *= 2
    # The scale alpha / r, or alpha / sqrt(r), has to stay.
    growth = 2**0.5 if settings["use_rslora"] else 2
    settings["lora_alpha"] *= growth
    settings["rank_pattern"] = {key: 2 * value for key, value in (settings["rank_pattern"] or {}).items()}
    settings["alpha_pattern"] = {key: growth * value for key, value in (settings["alpha_pattern"] or {}).items()}
    config_file.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _join(name: str, trained: Any, start: dict[str, Any]) -> Any:
    import torch

    if "lora_A" in name:
        return torch.cat([trained, start[name].to(trained)], dim=0).contiguous()
    if "lora_B" in name:
        return torch.cat([trained, -start[name].to(trained)], dim=1).contiguous()
    return trained
