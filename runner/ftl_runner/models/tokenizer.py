"""The tokenizer of a run: loaded, extended with the configured tokens, always with a pad token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.model_files import TOKENIZER_FILES
from ftl_runner.failures import first_line
from ftl_runner.models.classes import transformers_class
from ftl_runner.models.errors import ModelError

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
    options = {} if keys.tokenizer_legacy is None else {"legacy": keys.tokenizer_legacy}
    try:
        tokenizer: Any = loader.from_pretrained(
            source, revision=keys.model_revision, trust_remote_code=trusted, **options
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"no tokenizer could be loaded from {source!r}: {first_line(error)}",
            "check base_model / tokenizer_config, or set HF_TOKEN for a gated model",
        ) from error
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
    special = config.model.special_tokens
    if special is not None:
        values = special if isinstance(special, dict) else special.model_dump(exclude_none=True)
        extra = values.pop("additional_special_tokens", None)
        wanted = {name: value for name, value in values.items() if value is not None}
        if extra:
            wanted["additional_special_tokens"] = list(extra)
        tokenizer.add_special_tokens(wanted)
    if config.model.tokens:
        tokenizer.add_tokens([str(token) for token in config.model.tokens])
    if tokenizer.pad_token_id is None:
        # Padding is always masked in the labels, so sharing the end token is harmless.
        tokenizer.pad_token = tokenizer.eos_token
