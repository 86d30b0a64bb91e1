"""A key that is called implemented is read by somebody: no key is silently ignored."""

from __future__ import annotations

import re
from pathlib import Path

from ftl_config.axolotl import table
from ftl_config.keys import ATTRIBUTE_NAMES
from ftl_config.schema.data import DatasetSpec
from ftl_config.schema.launch import LaunchSection
from ftl_config.wordlist import words

ROOT = Path(__file__).resolve().parents[3]

NOT_READ_YET = set(
    words(
        """
        model_type cls_model_config model_kwargs tokenizer_type tokenizer_use_fast tokenizer_legacy
        resize_token_embeddings_to_32x mean_resizing_embeddings lora_target_parameters lora_exclude_modules
        peft_layer_replication peft_trainable_token_indices peft_ensure_weight_tying peft_autocast_adapter_dtype
        bnb_config_kwargs group_by_length sample_packing_group_size dataloader_num_workers dataloader_prefetch_factor
        accelerator_config optim_target_modules plugins torch_compile_backend torch_compile_mode torch_compile_options
        torch_empty_cache_steps loss_watchdog_threshold loss_watchdog_patience ddp_timeout ddp_bucket_cap_mb
        ddp_broadcast_buffers ray_run_name save_first_step greater_is_better hub_model_id hub_strategy hub_revision
        generation_prompt_ratio mlflow_run_name hf_mlflow_log_artifacts comet_experiment_key comet_online
        comet_experiment_config liger_rope liger_rms_norm liger_rms_norm_gated liger_layer_norm liger_glu_activation
        liger_cross_entropy liger_fused_linear_cross_entropy
        """
    )
)
"""Debts: to be read by the runner, or to be called unsupported. This list only ever gets shorter."""


def names_in_sources() -> set[str]:
    folders = (ROOT / "runner/ftl_runner", ROOT / "launcher/ftl_launcher")
    files = [file for folder in folders for file in folder.rglob("*.py")]
    return {name for file in files for name in re.findall(r"\w+", file.read_text(encoding="utf-8"))}


def test_implemented_keys_are_read() -> None:
    names = names_in_sources()
    implemented = [name for name, status in table().items() if status.name == "implemented"]
    unread = {name for name in implemented if not {name, ATTRIBUTE_NAMES.get(name, name)} & names}
    assert unread <= NOT_READ_YET, sorted(unread - NOT_READ_YET)


def test_keys_of_datasets_and_launch_are_read() -> None:
    names = names_in_sources()
    known = {name for name in DatasetSpec.model_fields if f"datasets.{name}" not in table()}
    assert {name for name in known | set(LaunchSection.model_fields) if name not in names} == set()
