"""What a prepared set is called: a hash of everything that shapes it, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.cache import fingerprint_of
from ftl_runner.data.formats.preference_registry import Kind, is_own_function, kind_of
from ftl_runner.data.formats.python_path import source_of
from ftl_runner.data.formats.registry import REGISTRY
from ftl_runner.data.parts import Parts, seed_of

if TYPE_CHECKING:
    from ftl_config import Config

_DATA_KEYS = (
    "val_set_size",
    "dataset_shard_num",
    "dataset_shard_idx",
    "dataset_exact_deduplication",
    "shuffle_merged_datasets",
    "shuffle_before_merging_datasets",
    "curriculum_sampling",
    "sequence_len",
    "eval_sequence_len",
    "excess_length_strategy",
    "min_sample_len",
    "max_prompt_len",
    "skip_bad_rows",
    "train_on_inputs",
    "chat_template_kwargs",
    "eot_tokens",
    "default_system_message",
    "sample_packing",
    "eval_sample_packing",
    "sample_packing_bin_size",
    "sample_packing_sequentially",
)
"""Keys of the data section that change the prepared sets, beside the entries, templates and texts themselves."""

_PLACE_KEYS = {"path", "data_files", "name", "revision", "chat_template", "chat_template_jinja"}
"""Keys of an entry that say where something is: the rows and the template's text count in their place."""

_IDLE_KEYS = {"split", "preprocess_shards", "trust_remote_code"}
"""Keys of an entry that change nothing, or (split) only which rows are read."""


def fingerprint(config: Config, tokenizer: Any, parts: Parts | None = None) -> str:
    """The name of the set that ``prepare`` makes of a config; ``parts`` are its entries, where they are known."""
    entries = parts or Parts.of(config, tokenizer)
    kind = kind_of(config)
    told = [
        {
            "options": spec.model_dump(mode="json", exclude_none=True, exclude=_PLACE_KEYS | _IDLE_KEYS),
            "rows": source.fingerprint(),
            "template": converter.template.source if converter.template else None,
            "code": _user_code(spec, kind),
        }
        for part in (entries.train, entries.test)
        for spec, source, converter in zip(part.specs, part.sources, part.converters, strict=True)
    ]
    data = config.data
    keys = {name: getattr(data, name) for name in _DATA_KEYS}
    keys["excess_length_strategy"] = data.excess_length_strategy or "drop"
    keys["min_sample_len"] = data.min_sample_len or 2
    keys["eval_sequence_len"] = data.eval_sequence_len or data.sequence_len
    keys["eval_sample_packing"] = data.sample_packing if data.eval_sample_packing is None else data.eval_sample_packing
    whole = [told, len(entries.train.specs), keys, seed_of(config), tokenizer_hash(tokenizer)]
    return fingerprint_of([*whole, kind] if kind else whole)


def _user_code(spec: DatasetSpec, kind: Kind | None) -> list[str]:
    """The source of the user's own functions: changing it changes the rows."""
    own = isinstance(spec.type, str) and "." in spec.type
    if own and (spec.type in REGISTRY if kind is None else not is_own_function(str(spec.type), kind)):
        own = False
    return [source_of(str(name)) for name in (spec.type if own else None, spec.input_transform) if name]


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of everything in a tokenizer that changes tokens."""
    if tokenizer.is_fast:
        told = tokenizer.backend_tokenizer.to_str()
    else:
        told = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256(f"{type(tokenizer).__name__}{told}{special}".encode("utf-8", "surrogatepass")).hexdigest()
