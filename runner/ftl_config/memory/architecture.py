"""config.json -> Architecture, by ``model_type``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ftl_config.errors import FtlError
from ftl_config.memory.families import gpt, hybrid
from ftl_config.memory.families.llama import STYLES, Style, llama_like
from ftl_config.memory.weights import Architecture

FAMILIES: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {
    **{name: partial(llama_like, style=style) for name, style in STYLES.items()},
    "gpt2": gpt.gpt2,
    "gptj": gpt.gptj,
    "gpt_neox": gpt.gpt_neox,
    "falcon": gpt.falcon,
    "mpt": gpt.mpt,
    "phi": gpt.phi,
    "lfm2": hybrid.lfm2,
    "lfm2_moe": hybrid.lfm2,
    "jamba": hybrid.jamba,
    "rwkv": hybrid.rwkv,
}


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The shapes behind a config.json. A type that is not known is read as a Llama, and the estimate says so.

    Raises:
        FtlError: the shapes are not in it.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):  # image models keep their language model's settings in there
        config = {**config, **text}
    name = str(config.get("model_type") or "unknown")
    family = FAMILIES.get(name)
    try:
        if family is not None:
            return family(config)
        guess = llama_like({**config, "model_type": name}, Style(tied=bool(config.get("tie_word_embeddings"))))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FtlError(
            f"the memory of a {name} model cannot be estimated: its config.json lacks {error}",
            f"known types are {', '.join(sorted(FAMILIES))}, and what is built like Llama",
        ) from error
    return replace(guess, notes=(*guess.notes, f"models of type {name} are not known: counted as a Llama"))
