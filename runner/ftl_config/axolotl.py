"""What becomes of every Axolotl key.

A key that has a field in a section and is not listed here is implemented. To turn on a key that is listed, delete its
word: nothing else knows about it. Keys of entries are written with a dot: ``datasets.shards``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from ftl_config.keys import keys
from ftl_config.wordlist import words

StatusName = Literal["implemented", "accepted", "unsupported", "renamed", "dead", "refused"]


@dataclass(frozen=True, slots=True)
class Status:
    """What becomes of a key: ``text`` is the note, the reason, the new name, or what to write instead."""

    name: StatusName
    text: str = ""


OURS = frozenset(
    words(
        """launch checkpoint bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_compute_dtype lora_exclude_modules
        skip_bad_rows stop_on_nan_loss"""
    )
)
"""Keys that Axolotl does not have (or, for bitsandbytes, has only inside bnb_config_kwargs)."""

_UNSUPPORTED = {
    "preference tuning and reinforcement learning": "ebft",
    "image and audio models": """
        processor_type processor_kwargs image_size image_resize_algorithm role_boundaries freeze_mm_modules
        skip_prepare_dataset""",
    "context, tensor and expert parallelism": """
        context_parallel_size ring_attn_func heads_k_stride tensor_parallel_size expert_parallel_size
        expert_parallel_token_capacity dp_replicate_size""",
    "quantization other than bitsandbytes": """
        quantization model_quantization_config model_quantization_config_kwargs quantize_moe_experts
        nonexpert_quantization dsv4_fp8_nonexpert_mode dsv4_bf16_all dsv4_fp4_grouped_mode gemma4_fp8_nonexpert
        gemma4_nf4_nonexpert nvfp4_merge_aware nvfp4_merge_aware_start_step use_onebitllms""",
    "FP8 training": "fp8 fp8_enable_fsdp_float8_all_gather",
    "optimizers beyond those of transformers": """
        dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of qgalore_rank qgalore_update_proj_gap
        qgalore_scale qgalore_proj_type qgalore_proj_quant qgalore_proj_bits qgalore_proj_group_size
        qgalore_cos_threshold qgalore_gamma_proj qgalore_queue_size""",
    "losses other than cross entropy": "use_eaft eaft_alpha eaft_k liger_use_token_scaling",
    "distillation": """
        kd_trainer kd_ce_alpha kd_alpha kd_temperature kd_temperature_min kd_beta kd_normalize_topk
        kd_online_server_base_url kd_online_topk kd_online_server kd_online_timeout datasets.logprobs_field
        datasets.temperature""",
    "this Axolotl plugin": """
        diffusion dense_mixer grokfast_alpha grokfast_lamb hatchery llmcompressor mora nemo_gym_enabled nemo_gym_dir
        nemo_gym_auto_clone nemo_gym_config_paths nemo_gym_head_port nemo_gym_server_timeout nemo_gym_verify_timeout
        nemo_gym_run_timeout nemo_gym_datasets nemo_gym_auto_start nemo_gym_model_name nemo_gym_multi_turn
        nemo_gym_max_turns""",
    "attention variants": "scaling_softmax scaling_softmax_factor scaling_softmax_bias flash_optimum",
    "context extension (PoSE)": "use_pose pose_split_on_token_ids pose_max_context_len pose_num_chunks",
    "changes to this part of the model": """
        reinit_weights fix_untrained_tokens shrink_embeddings llama4_linearized_experts""",
    "mistral-common tokenizers": "tokenizer_use_mistral_common",
    "trainer classes of your own": "trainer_cls",
    "scores other than the loss": """
        do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_dataset bench_split lm_eval_tasks""",
    "choosing the batch size by trial": "auto_find_batch_size",
    "this part of FSDP": "fp32_norms fp32_norm_classes",
    "checkpoints on request": "dynamic_checkpoint",
    "more settings of a Comet experiment": "comet_experiment_config",
}

PREPARED_ONLY = frozenset({"preference tuning and reinforcement learning"})
"""Reasons of keys that `ftl preprocess` understands: their data is prepared, and training with it is to come."""

_ACCEPTED = {
    "speed only: the same mathematics runs without it": """
        lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel fused_attn_kernel sdpa_varlen
        large_head_attention gemma4_hybrid_attn_impl use_kernels experts_implementation expert_backend use_scattermoe
        use_sonicmoe use_dsv4_kernels use_glm_dsa_kernels moe_grouped_backend moe_dequant_chunk_size moe_bnb_fast
        dsv4_fp8_lora_kernel dsv4_shared_mlp_lora_kernel flex_attn_compile_kwargs flash_attn_fuse_mlp deepcompile
        liger_rms_norm_gated sample_packing_mp_start_method""",
    "memory only: the same mathematics runs without it": """
        cut_cross_entropy chunked_cross_entropy chunked_cross_entropy_num_chunks flash_attn_cross_entropy tiled_mlp
        tiled_mlp_num_shards tiled_mlp_use_original_mlp activation_offloading layer_offloading selective_checkpointing
        qlora_sharded_model_loading embeddings_skip_upcast gc_collect_steps dataset_keep_in_memory
        num_dataset_shards_to_save datasets.preprocess_shards dpo_use_liger_kernel dpo_padding_free""",
    "measuring only: nothing is recorded for it": """
        profiler_steps profiler_steps_start include_tkps include_tokens_per_second use_otel_metrics otel_metrics_host
        otel_metrics_port use_trackio trackio_project_name trackio_run_name trackio_space_id use_swanlab
        swanlab_project swanlab_experiment_name swanlab_description swanlab_mode swanlab_workspace swanlab_log_model
        swanlab_web_host swanlab_api_host swanlab_lark_webhook_url swanlab_log_completions
        swanlab_completion_log_interval swanlab_completion_max_buffer""",
    "each process has its model on a GPU of its own": "device_map",
    "packing looks at all rows at once": "sample_packing_group_size",
    "not a matter of training": """
        lora_on_cpu merge_lora gradio_title gradio_share gradio_server_name gradio_server_port
        gradio_max_new_tokens gradio_temperature lm_eval_batch_size lm_eval_post_train lm_eval_model""",
    "": """
        strict is_preprocess preprocess_iterable axolotl_config_path world_size local_rank device ddp
        is_falcon_derived_model is_llama_derived_model is_mistral_derived_model is_qwen_derived_model
        sample_packing_eff_est total_num_tokens total_supervised_tokens low_cpu_mem_usage save_safetensors
        hf_use_auth_token tokenizer_save_jinja_files remove_unused_columns expert_parallel_backend
        expert_parallel_num_nvl_bytes expert_parallel_num_rdma_bytes expert_parallel_fallback_on_unsupported
        dp_shard_size datasets.trust_remote_code tokenizer_use_fast""",
}
"""By note. No note where even a word would be noise."""

SPEED, MEMORY = (next(note for note in _ACCEPTED if note.startswith(word)) for word in ("speed", "memory"))
TOLD_TOGETHER = frozenset({SPEED, MEMORY, "not a matter of training"})
"""Notes of keys whose results are the same with and without: one warning names all of them."""

RENAMED = {
    "revision_of_model": "model_revision",
    "type_of_model": "model_type",
    "overrides_of_model_config": "model_config",
    "overrides_of_model_kwargs": "model_kwargs",
    "adam_eps": "adam_epsilon",
    "dataset_processes": "dataset_num_proc",
    "dpo_beta": "rl_beta",
    "eval_max_new_tokens": "generation_max_new_tokens",
    "evaluation_strategy": "eval_strategy",
    "lr": "learning_rate",
    "liger_swiglu": "liger_glu_activation",
    "lora_layers_pattern": "peft_layers_pattern",
    "lora_layers_to_transform": "peft_layers_to_transform",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "sequence_parallel_degree": "context_parallel_size",
    "wandb_run_name": "wandb_name",
    "warmup": "warmup_steps",
    "datasets.train_on_split": "datasets.split",
}
"""Old spelling to the one it is read as. Both at once is an error."""

_DEAD = {
    "base_model_ignore_patterns": "",
    "datasets.input_format": "Axolotl does not read it; write a prompt as a mapping under `type`",
    "datasets.conversation": "conversation templates come from `chat_template` now",
    "data_seed": "`seed` decides the order of the data too",
    "debug": "use the `--debug` flag",
    "eta_min": "write `cosine_min_lr_ratio` (a share of learning_rate) or `lr_scheduler_kwargs`",
    "eval_table_size": "write `generate_samples: true` and `num_generation_samples`",
    "experimental_skip_move_to_device": "",
    "flash_attn_rms_norm": "use `liger_rms_norm: true`",
    "full_finetune": "leave `adapter` out for a full fine-tune",
    "gptq_disable_exllama": "GPTQ options are read from the model",
    "gptq_groupsize": "GPTQ options are read from the model",
    "gptq_model_v1": "GPTQ options are read from the model",
    "load_in_8bit_fp32_cpu_offload": "",
    "max_packed_sequence_len": "write `sequence_len` and `sample_packing: true`",
    "sample_packing_seq_len_multiplier": "rows are `sequence_len` long; `micro_batch_size` decides how many",
    "test_value": "",
    "torch_dtype": "write `bf16: true`, `fp16: true` or `float32: true`",
    "torchdistx_path": "torchdistx is gone; use another `optimizer`",
}
"""Without effect, with a warning: old example files carry them."""

_REMOVED = {
    "dpo_generate_during_eval": "it was removed from TRL",
    "dpo_norm_loss": "it was removed from TRL",
    "dpo_use_logits_to_keep": "it was removed from TRL",
    "rpo_alpha": "write `dpo_loss_type` and `dpo_loss_weights`",
    "s2_attention": "shifted-sparse attention is gone; use `attn_implementation: flash_attention_2`",
    **dict.fromkeys(
        words(
            """unsloth_cross_entropy_loss unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm
            unsloth_rope"""
        ),
        "unsloth kernels are gone; leave the key out",
    ),
    "comet_api_key": "secrets stay out of configs: set COMET_API_KEY in the environment, name it in launch.secrets",
    "swanlab_api_key": "secrets stay out of configs: set SWANLAB_API_KEY in the environment",
    "swanlab_lark_secret": "secrets stay out of configs",
}
"""An error when they are given a value that asks for something."""

LEGACY_ATTENTION = {
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
"""Old switches, the more particular first, and what they are read as."""

OTHER_LEGACY = {
    **{flag: f"attn_implementation: {name}" for flag, name in LEGACY_ATTENTION.items()},
    "flash_attn_d512": "large_head_attention: auto",
    "datasets.message_field_content": "message_property_mappings.content",
    "datasets.message_field_role": "message_property_mappings.role",
    "fsdp_config.fsdp_version": "fsdp_version",
    "fsdp_final_state_dict_type": "fsdp_config.final_state_dict_type",
    "gc_steps": "gc_collect_steps and torch_empty_cache_steps",
    "rope_scaling": "model_config.rope_scaling",
}
"""Old spellings that take more than another name (``legacy.py``), and what they are read as."""

LEGACY_FSDP = {
    "sharding_strategy": "reshard_after_forward: true for FULL_SHARD, false for SHARD_GRAD_OP",
    "limit_all_gathers": "FSDP2 always does",
    "forward_prefetch": "FSDP2 works it out",
    "backward_prefetch": "FSDP2 works it out",
}
"""Keys of fsdp_config that went with the first FSDP."""

HARMLESS_VALUES: dict[str, tuple[Any, ...]] = {
    "context_parallel_size": (1,),
    "tensor_parallel_size": (1,),
    "expert_parallel_size": (1,),
    "dp_replicate_size": (1,),
}
"""Values of unsupported keys that ask for nothing."""


@cache
def table() -> dict[str, Status]:
    """Every known key (dotted for entries of datasets) and what becomes of it."""
    statuses = {name: Status("implemented") for name in keys()}
    for reason, names in _UNSUPPORTED.items():
        statuses.update((name, Status("unsupported", reason)) for name in words(names))
    for note, names in _ACCEPTED.items():
        statuses.update((name, Status("accepted", note)) for name in words(names))
    statuses.update((old, Status("renamed", new)) for old, new in RENAMED.items())
    statuses.update((old, Status("renamed", new)) for old, new in OTHER_LEGACY.items())
    statuses.update((name, Status("dead", text)) for name, text in _DEAD.items())
    statuses.update((name, Status("refused", text)) for name, text in _REMOVED.items())
    return statuses


def asks_for_nothing(name: str, value: Any, default: Any = None) -> bool:
    """Whether a value is as good as leaving the key out."""
    if value in (None, False, "", 0) or value == [] or value == {}:
        return True
    return bool(value == default or value in HARMLESS_VALUES.get(name, ()))


SPECTRUM_PLUGIN = "axolotl.integrations.spectrum.SpectrumPlugin"

PLUGINS = {
    "axolotl.integrations.liger.LigerPlugin": Status("implemented"),
    "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin": Status("accepted", MEMORY),
    "axolotl.integrations.kernels.KernelsPlugin": Status("accepted", SPEED),
    "axolotl.integrations.swanlab.SwanLabPlugin": Status("accepted", "measuring only: nothing is recorded for it"),
    SPECTRUM_PLUGIN: Status("implemented"),
}
"""Axolotl's plugins by path; all others are not supported."""
