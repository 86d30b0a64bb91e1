"""``ftl merge-lora``: fold the adapter into the base model, as a plain model directory ``<adapter>/merged``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_runner.inference import adapter_dir

if TYPE_CHECKING:
    from ftl_config import Config


def merge_lora(config: Config) -> Path:
    """Merge on the CPU in the precision the model was trained in; returns the merged model's folder.

    Raises:
        FtlError: the configuration has no adapter, or none was trained.
    """
    from peft import PeftModel

    from ftl_runner.models.loader import load_base_model
    from ftl_runner.models.precision import choose_precision
    from ftl_runner.models.tokenizer import load_tokenizer

    folder = adapter_dir(config)
    if folder is None:
        raise FtlError("merge-lora needs `adapter: lora` (or qlora) in the config", exit_code=2)
    # The adapter was trained on the quantized weights, but is merged into the full-precision ones, as PEFT advises.
    plain = config.model_copy(
        update={"adapter": config.adapter.model_copy(update={"load_in_4bit": False, "load_in_8bit": False})}
    )
    tokenizer = load_tokenizer(plain)
    model: Any = load_base_model(plain, tokenizer, choose_precision(plain))
    merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload(safe_merge=True)
    merged.config.use_cache = True
    target = folder / "merged"
    merged.save_pretrained(str(target))
    tokenizer.save_pretrained(str(target))
    return target
