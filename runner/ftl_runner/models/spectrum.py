"""Spectrum: train the layers whose weights hold most signal, and freeze the others (arXiv:2406.06623).

The singular values of a matrix of noise end at a threshold (Marchenko-Pastur); what lies beyond it is signal. Layers
are compared with those of their own kind: all query projections, all down projections, ...
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.axolotl import SPECTRUM_PLUGIN
from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ftl_config import Config

logger = logging.getLogger(__name__)

SCAN_FOLDER = "model_snr_results"
"""Where Axolotl looks for the scan of a model, below the working directory."""

_CACHE_FILE = "spectrum.json"
_IQR_OF_NORMAL = 1.349
"""Interquartile range of the normal distribution, in standard deviations."""


def uses_spectrum(config: Config) -> bool:
    """Whether the plugin is among ``plugins``."""
    return SPECTRUM_PLUGIN in (config.training.plugins or ())


def chosen_parameters(model: Any, config: Config) -> list[str]:
    """Patterns for ``freeze_all_but``: the best layers of each kind, the embedding and the output head.

    Raises:
        ModelError: a scan that names no parameter of the model, or a share so small that no layer is left.
    """
    share, by_kind = config.integrations.spectrum_top_fraction, dict[str, list[tuple[float, str]]]()
    for name, (kind, snr) in _scan(model, config).items():
        by_kind.setdefault(kind, []).append((snr, name))
    best = [name for layers in by_kind.values() for _, name in sorted(layers, reverse=True)[: int(len(layers) * share)]]
    if not best:
        raise ModelError(f"spectrum_top_fraction: {share} leaves no layer to train", "raise it", 2)
    outer = {id(p) for module in _outer_modules(model) for p in module.parameters()}
    chosen = [name for name, p in model.named_parameters() if id(p) in outer]
    logger.info("spectrum trains %d of %d layers", len(best), sum(len(layers) for layers in by_kind.values()))
    return [f"^{re.escape(name)}$" for name in (*chosen, *best)]


def _outer_modules(model: Any) -> list[Any]:
    return [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]


def _scan(model: Any, config: Config) -> dict[str, tuple[str, float]]:
    """Parameter to kind and signal-to-noise ratio: from Axolotl's file, from an earlier attempt, or measured."""
    source = str(config.integrations.spectrum_model_name or config.model.base_model)
    slug = source.replace("/", "-").replace("_", "-")
    theirs = Path(SCAN_FOLDER) / f"snr_results_{slug}.json"
    if theirs.is_file():
        return _read_axolotl_scan(theirs, model)
    cache = Path(config.checkpointing.output_dir).expanduser() / _CACHE_FILE
    weights = {name: p for name, p in model.named_parameters() if p.ndim > 1 and re.search(r"\.\d+\.", name)}
    sizes = {name: list(p.shape) for name, p in weights.items()}
    if cache.is_file():
        saved = json.loads(cache.read_text(encoding="utf-8"))
        if saved["model"] == str(config.model.base_model) and saved["sizes"] == sizes:
            return {name: (_kind(name), snr) for name, snr in saved["snr"].items()}
    snr = {name: signal_to_noise(p) for name, p in weights.items()}
    _write(cache, {"model": str(config.model.base_model), "sizes": sizes, "snr": snr})
    return {name: (_kind(name), value) for name, value in snr.items()}


def _kind(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` to ``mlp.up_proj.weight``."""
    return re.sub(r"^.*?\.\d+\.", "", name)


def _read_axolotl_scan(file: Path, model: Any) -> dict[str, tuple[str, float]]:
    """``{module: {"type": ..., "snr": ...}}``, which Spectrum's own script writes."""
    scan = {
        f"{name}.weight": (str(row["type"]), float(row["snr"])) for name, row in json.loads(file.read_text()).items()
    }
    names = {name for name, _ in model.named_parameters()}
    found = {name: row for name, row in scan.items() if name in names}
    if not found:
        raise ModelError(f"{file} names no layer of this model", "delete it, or correct spectrum_model_name", 2)
    return found


def signal_to_noise(weight: torch.Tensor) -> float:
    """Sum of the singular values above the noise threshold over the sum of those below, over the largest.

    Of several matrices in one tensor (experts), the mean.
    """
    import torch

    device = torch.device("cuda") if torch.cuda.is_available() else weight.device
    matrices = weight.detach().reshape(-1, *weight.shape[-2:])
    return sum(_matrix_ratio(matrix.to(device).float()) for matrix in matrices) / len(matrices)


def _matrix_ratio(matrix: torch.Tensor) -> float:
    import torch

    values = torch.linalg.svdvals(matrix)
    quarter, three_quarters = torch.quantile(values, torch.tensor([0.25, 0.75], device=values.device)).tolist()
    sigma = (three_quarters - quarter) / _IQR_OF_NORMAL
    threshold = sigma * (1 + (min(matrix.shape) / max(matrix.shape)) ** 0.5)
    signal, noise = float(values[values > threshold].sum()), float(values[values <= threshold].sum())
    largest = float(values[0])
    return signal / noise / largest if noise and largest else math.inf


def _write(path: Path, content: dict[str, Any]) -> None:
    """Every rank measures the same; the last to finish wins, with a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)
