"""The tokenizer of a run: loaded, extended with the configured tokens, always with a pad token."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.model_files import TOKENIZER_FILES
from ftl_config.rules.adapters import trains_new_embeddings
from ftl_runner.failures import first_line
from ftl_runner.models.classes import refuse_own_code, transformers_class
from ftl_runner.models.errors import ModelError
from ftl_runner.models.renamed_tokens import rename_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ftl_config import Config


def load_tokenizer(config: Config) -> PreTrainedTokenizerBase:
    """The tokenizer named by ``tokenizer_config`` or, without it, by ``base_model``.

    Raises:
        ModelError: a local directory has no tokenizer files, the hub has none under that name, or transformers has
            no class ``tokenizer_type``.
    """
    keys = config.model
    source = keys.tokenizer_config or keys.base_model
    assert source is not None, "completeness rules require base_model"
    _check_local(source)
    trusted = bool(keys.trust_remote_code)
    loader = transformers_class("tokenizer_type", keys.tokenizer_type, "AutoTokenizer", trust_remote_code=trusted)
    options: dict[str, Any] = {} if keys.tokenizer_legacy is None else {"legacy": keys.tokenizer_legacy}
    load = functools.partial(loader.from_pretrained, trust_remote_code=trusted, **options)
    try:
        tokenizer: Any = load(source, revision=keys.model_revision)
    except (OSError, ValueError) as error:
        refuse_own_code(source, error)
        raise ModelError(
            f"no tokenizer could be loaded from {source!r}: {first_line(error)}",
            "check base_model / tokenizer_config, or set HF_TOKEN for a gated model",
        ) from error
    if keys.added_tokens_overrides:
        tokenizer = rename_tokens(tokenizer, keys.added_tokens_overrides, load)
    _apply_special_tokens(tokenizer, config)
    return tokenizer  # type: ignore[no-any-return]


def _check_local(source: str) -> None:
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"the model directory {source} has no tokenizer (none of {', '.join(TOKENIZER_FILES)})",
            "copy the base model's tokenizer files there, or set tokenizer_config to where they are",
        )
    if not folder.exists() and source.startswith((".", "/", "~")):
        raise ModelError(f"the model directory {source} does not exist", "check base_model")


def _apply_special_tokens(tokenizer: Any, config: Config) -> None:
    from tokenizers import AddedToken

    special = config.model.special_tokens
    if special is not None:
        values = special if isinstance(special, dict) else special.model_dump(exclude_none=True)
        extra = values.pop("additional_special_tokens", None)
        wanted = {name: value for name, value in values.items() if value is not None}
        _check_trained(tokenizer, wanted, config)
        if extra:
            wanted["additional_special_tokens"] = list(extra)
        tokenizer.add_special_tokens(wanted)
    if config.model.tokens:
        # Found in the text as it is written, not in what a normalizer makes of it.
        tokenizer.add_tokens([AddedToken(str(token), normalized=False) for token in config.model.tokens])
    if tokenizer.pad_token_id is None:
        # Padding is always masked in the labels, so sharing the end token is harmless.
        tokenizer.pad_token = tokenizer.eos_token


def _check_trained(tokenizer: Any, special: dict[str, str], config: Config) -> None:
    """A special token that the base model has never seen has an embedding of chance until somebody trains it."""
    vocabulary = tokenizer.get_vocab()
    new = [f"{role}: {text}" for role, text in special.items() if role != "pad_token" and text not in vocabulary]
    if new and not trains_new_embeddings(config):
        raise ModelError(
            f"special_tokens: {new[0]} is new to this tokenizer, and the adapter would not train its embedding",
            "set lora_modules_to_save: [embed_tokens, lm_head] (as the model calls them), or choose a token that the "
            "tokenizer has",
            exit_code=2,
        )
