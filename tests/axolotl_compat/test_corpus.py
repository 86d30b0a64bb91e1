"""Configs of the kind that users have, written for these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ftl_config import ConfigError, load_config, load_text
from ftl_config.wordlist import words

CONFIGS = sorted((Path(__file__).parent / "configs").glob("*.yml"))
NOT_YET = "not-yet"

FREQUENT_KEYS = words(
    """
    base_model output_dir sequence_len micro_batch_size learning_rate optimizer bf16 datasets
    gradient_accumulation_steps lr_scheduler logging_steps num_epochs tf32 sample_packing warmup_ratio
    saves_per_epoch val_set_size attn_implementation gradient_checkpointing weight_decay wandb_name wandb_project
    wandb_entity wandb_watch wandb_log_model evals_per_epoch adapter lora_r lora_alpha dataset_prepared_path
    lora_dropout special_tokens resume_from_checkpoint load_in_4bit load_in_8bit lora_model_dir lora_target_modules
    plugins lora_target_linear model_type chat_template tokenizer_type gradient_checkpointing_kwargs fsdp_config
    eval_sample_packing strict pad_to_sequence_len trust_remote_code fp16 liger_rms_norm liger_glu_activation
    remove_unused_columns eot_tokens liger_layer_norm processor_type skip_prepare_dataset fsdp max_steps liger_rope
    lora_mlp_kernel fsdp_version lora_qkv_kernel lora_o_kernel warmup_steps save_steps rl
    liger_fused_linear_cross_entropy loss_watchdog_threshold loss_watchdog_patience quantize_moe_experts use_kernels
    seed torchdistx_path deepspeed activation_offloading gptq_groupsize gptq_model_v1 ddp_find_unused_parameters
    tokenizer_use_mistral_common lora_modules_to_save max_packed_sequence_len push_dataset_to_hub flash_attention
    unfrozen_parameters use_scattermoe adam_beta2 qat ebft lora_target_parameters liger_rms_norm_gated
    experimental_skip_move_to_device train_on_inputs group_by_length llama4_linearized_experts save_total_limit
    dp_shard_size experts_implementation max_grad_norm early_stopping_patience use_sonicmoe torch_compile tokens
    save_strategy context_parallel_size lora_fan_in_fan_out model_config gptq trl trackio_project_name
    trackio_run_name trackio_space_id eval_batch_size flex_attn_compile_kwargs pretraining_dataset fused_attn_kernel
    gemma4_hybrid_attn_impl batch_size adam_epsilon resize_token_embeddings_to_32x model_quantization_config debug
    shuffle_merged_datasets tensor_parallel_size expert_parallel_size flash_attn_cross_entropy num_labels
    cosine_constant_lr_ratio cosine_min_lr_ratio save_only_model eta_min
    """
)
"""The keys that Axolotl's example files use most, most frequent first."""


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem != NOT_YET], ids=lambda path: path.stem)
def test_loads_and_survives_the_round_trip(path: Path) -> None:
    loaded = load_config(path)
    again = load_text(loaded.to_yaml())
    assert again.config == loaded.config
    assert again.digest == loaded.digest
    assert not [warning for warning in again.warnings if "old spelling" in warning.message]


def test_frequent_keys_are_all_used_here() -> None:
    used = {key for path in CONFIGS for key in yaml.safe_load(path.read_text())}
    assert set(FREQUENT_KEYS) <= used


def test_keys_that_are_not_supported_yet_are_named_one_by_one() -> None:
    path = next(path for path in CONFIGS if path.stem == NOT_YET)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    refused = {problem.key: problem.message for problem in caught.value.problems if problem.severity == "error"}
    assert all(message.startswith("not yet supported: ") for message in refused.values()), refused
    assert {"quantize_moe_experts", "processor_type", "context_parallel_size"} <= set(refused)
    assert "ebft.mode" not in refused, "what lies inside a refused key needs no word of its own"


def test_old_spellings_are_read_and_named() -> None:
    loaded = load_config(next(path for path in CONFIGS if path.stem == "year-2023"))
    config = loaded.config
    assert config.model.attn_implementation == "sdpa"
    assert config.logging.wandb_name == "old"
    assert config.training.adam_epsilon == 1e-5
    assert config.checkpointing.eval_strategy == "steps"
    assert config.data.datasets is not None
    assert config.data.datasets[0].message_property_mappings == {"role": "from", "content": "value"}
    named = {warning.key for warning in loaded.warnings}
    assert {"eta_min", "gptq_groupsize", "torchdistx_path", "max_packed_sequence_len", "debug", "adam_eps"} <= named


def test_first_fsdp_becomes_the_second() -> None:
    loaded = load_config(next(path for path in CONFIGS if path.stem == "old-fsdp"))
    distributed = loaded.config.distributed
    assert distributed.fsdp_version == 2
    assert distributed.fsdp_config is not None
    assert distributed.fsdp_config.reshard_after_forward is True
    assert distributed.fsdp_config.offload_params is True
    assert distributed.fsdp_config.transformer_layer_cls_to_wrap == "LlamaDecoderLayer"


def test_words_for_booleans_are_booleans() -> None:
    config = load_config(next(path for path in CONFIGS if path.stem == "zero3-ray")).config
    assert config.precision.bf16 is True
    assert config.precision.fp16 is False
    assert config.training.gradient_checkpointing is True


def test_merged_entries_share_what_they_do_not_say() -> None:
    datasets = load_config(next(path for path in CONFIGS if path.stem == "own-format")).config.data.datasets
    assert datasets is not None
    assert datasets[0].type == datasets[1].type
    assert datasets[1].path == "data/faq-2.csv"
    assert datasets[2].type is None
