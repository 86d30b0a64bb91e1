"""A model and a tokenizer that come with Python code of their own, as Qwen 1, BTLM and XGen do."""

from __future__ import annotations

import json
from pathlib import Path

from tests.families.trial import word_tokenizer
from tests.unit.runner.tiny_models import tiny_causal_model

_FILES = {
    "configuration_own.py": """
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "own_llama"
""",
    "modeling_own.py": """
from transformers import LlamaForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
""",
    "tokenization_own.py": """
from transformers import PreTrainedTokenizerFast


class OwnTokenizer(PreTrainedTokenizerFast):
    own_code_ran = True
""",
}


def write_model_with_code(folder: Path) -> Path:
    """A random Llama by another name; transformers alone can load neither it nor its tokenizer."""
    tiny_causal_model("llama").save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    classes = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    _change(folder / "config.json", model_type="own_llama", architectures=["OwnForCausalLM"], auto_map=classes)
    tokenizer = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
    _change(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=tokenizer)
    return folder


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
