"""``ftl merge-lora``: fold the adapter into the base model, as a plain model directory ``<adapter>/merged``.

The merge runs on the CPU, in the precision that the base was trained in. A base that was trained on quantized is merged
into its full-precision weights, as PEFT advises: the merged model computes what the adapter computes on those. After
LoftQ, whose adapter is a correction to the quantized base, those weights are rounded first.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_runner.inference import adapter_dir
from ftl_runner.models.adapter import load_adapter

if TYPE_CHECKING:
    from ftl_config import Config

logger = logging.getLogger(__name__)


def merge_lora(config: Config) -> Path:
    """Merge, shard by shard or with the whole model in memory (``merge_method``); returns the merged model's folder.

    Raises:
        FtlError: the configuration has no adapter, or none was trained.
    """
    from ftl_runner.merge_shards import NeedsWholeModel, merge_by_shards
    from ftl_runner.models.layers import Imitation
    from ftl_runner.models.loader import load_base_model, load_model_config
    from ftl_runner.models.precision import choose_precision
    from ftl_runner.models.quantization import released_quantization
    from ftl_runner.models.tokenizer import load_tokenizer

    folder = adapter_dir(config)
    if folder is None:
        raise FtlError("merge-lora needs `adapter: lora` (or qlora) in the config", exit_code=2)
    plain = config.model_copy(
        update={"adapter": config.adapter.model_copy(update={"load_in_4bit": False, "load_in_8bit": False})}
    )
    if released_quantization(load_model_config(plain)) == "gptq":
        hint = "serve the adapter beside the base, or merge with the full model as base_model"
        raise FtlError("merge-lora: an adapter cannot be merged into weights quantized with GPTQ", hint, exit_code=2)
    tokenizer = load_tokenizer(plain)
    precision, target = choose_precision(plain), folder / "merged"
    method = config.adapter.merge_method
    if method == "memory_efficient":
        try:
            rounding = None if config.adapter.loftq_bits is None else Imitation(config, precision)
            merge_by_shards(plain, tokenizer, precision, folder, target, rounding)
        except NeedsWholeModel as reason:
            logger.warning("merging with the whole model in memory: %s", reason)
            method = "legacy"
    if method == "legacy":
        model = load_base_model(plain, tokenizer, precision).to("cpu")
        _merge_whole(model, config, folder, target)
    tokenizer.save_pretrained(str(target))
    return target


def _merge_whole(model: Any, config: Config, folder: Path, target: Path) -> None:
    """Merge into a base that is held in full, whatever ``config`` says of its quantization."""
    _untie_for_adapter(model, folder)
    merged = load_adapter(model, config, folder).merge_and_unload(safe_merge=True)
    merged.config.use_cache = True
    merged.save_pretrained(str(target))


def _untie_for_adapter(model: Any, folder: Path) -> None:
    """Give the output head weights of its own where only the embedding, or only the head, is adapted in place.

    With an adapter on one of two tied modules the other computes with the base's weights. A merge into the shared
    tensor would change both.
    """
    import torch
    from peft import PeftConfig

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module in (head, embedding)}
    targets = PeftConfig.from_pretrained(str(folder)).target_modules
    if isinstance(targets, str) or names & set(targets or ()):
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
