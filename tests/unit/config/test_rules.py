"""Rules between keys: for each a config that breaks it and what is said, and its neighbours that do not break it."""

# ruff: noqa: E501 - a table reads by its rows

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ftl_config.rules import TOPICS, registry
from ftl_config.rules.registry import Rule
from tests.unit.config.configs import BASE, problems_of

Case = tuple[str, str, str, str]
"""(name of the rule, lines of YAML, key it is shown at, part of what is said)."""

ADAPTERS: list[Case] = [
    ("one_bit_width", "adapter: lora\nload_in_4bit: true\nload_in_8bit: true", "load_in_4bit", "cannot be combined with load_in_8bit"),
    ("qlora_needs_4bit", "adapter: qlora", "adapter", "qlora needs load_in_4bit: true"),
    ("qlora_needs_4bit", "adapter: qlora\nload_in_8bit: true", "load_in_8bit", "means a 4-bit base"),
    ("qlora_needs_4bit", "adapter: qlora\nload_in_4bit: true\ngptq: true", "gptq", "cannot start from a GPTQ model"),
    ("one_quantization", "adapter: lora\nload_in_4bit: true\nmodel_quantization_config: Mxfp4Config", "model_quantization_config", "cannot be combined with load_in_4bit"),
    ("lora_keys_need_adapter", "lora_r: 8\nlora_alpha: 16", "lora_r", "has no effect without adapter: lora (and lora_alpha)"),
    ("bnb_keys_need_4bit", "adapter: lora\nbnb_4bit_quant_type: nf4", "bnb_4bit_quant_type", "has no effect without load_in_4bit"),
    ("target_patterns_compile", "adapter: lora\nlora_target_modules: ['q_(proj']", "lora_target_modules[0]", "is not a regular expression"),
    ("target_patterns_compile", "adapter: lora\nlora_target_modules: '*.q_proj'", "lora_target_modules", "is not a regular expression"),
    ("target_parameters_need_no_dropout", "adapter: lora\nlora_target_parameters: [x]\nlora_dropout: 0.1", "lora_dropout", "has to be 0"),
    ("layers_pattern_needs_layers", "adapter: lora\npeft_layers_pattern: [layers]", "peft_layers_pattern", "needs peft_layers_to_transform"),
    ("unfrozen_parameters_fit", "adapter: lora\nunfrozen_parameters: [x]", "unfrozen_parameters", "cannot be combined with an adapter"),
    ("unfrozen_parameters_fit", "unfrozen_parameters: [x, 'a(']", "unfrozen_parameters[1]", "not a regular expression"),
    ("unfrozen_parameters_fit", "unfrozen_parameters: ['x[5:5]']", "unfrozen_parameters[0]", "the range 5:5 is empty"),
    ("unfrozen_parameters_fit", "unfrozen_parameters: ['x[:5]']\nweight_decay: 0.1", "weight_decay", "has to be 0 with a range"),
    ("unfrozen_parameters_fit", "unfrozen_parameters: ['x[:5]']\nfsdp_version: 2", "unfrozen_parameters[0]", "a range cannot be combined with fsdp_version"),
    ("unfrozen_parameters_fit", "unfrozen_parameters: ['x[:5]']\ndeepspeed: zero2", "unfrozen_parameters[0]", "a range cannot be combined with deepspeed"),
    ("initial_weights_fit", "adapter: lora\npeft_init_lora_weights: eva", "peft_init_lora_weights", "not yet supported: eva"),
    ("initial_weights_fit", "adapter: lora\npeft_init_lora_weights: pisa", "peft_init_lora_weights", "unknown way to start an adapter"),
    ("initial_weights_fit", "adapter: qlora\nload_in_4bit: true\npeft_init_lora_weights: pissa", "peft_init_lora_weights", "takes the base's weights apart"),
    ("initial_weights_fit", "adapter: lora\nlora_r: 5\npeft_init_lora_weights: orthogonal", "lora_r", "has to be even"),
    ("initial_weights_fit", "adapter: lora\npeft_init_lora_weights: loftq", "peft_init_lora_weights", "loftq needs its bits"),
    ("loftq_fits", "peft: {loftq_config: {loftq_bits: 4}}", "peft", "has no effect without adapter"),
    ("loftq_fits", "adapter: lora\nload_in_8bit: true\npeft: {loftq_config: {loftq_bits: 4}}", "peft.loftq_config.loftq_bits", "4 does not fit load_in_8bit"),
    ("loftq_fits", "adapter: lora\npeft_init_lora_weights: olora\npeft: {loftq_config: {}}", "peft_init_lora_weights", "both say how the adapter starts"),
    ("loftq_fits", "adapter: lora\npeft_use_dora: true\npeft: {loftq_config: {}}", "peft_use_dora", "cannot be combined with loftq_config"),
    ("reference_is_the_released_model", "rl: kto\nadapter: lora\npeft: {loftq_config: {}}", "peft", "the reference model of kto"),
    ("reference_is_the_released_model", "rl: dpo\nadapter: lora\nrelora: true\njagged_restart_steps: 50", "relora", "the reference model of dpo"),
    ("learning_rate_groups_or_loraplus", "adapter: lora\nloraplus_lr_ratio: 16\nlr_groups: [{name: a, modules: [b], lr: 1e-5}]", "lr_groups", "cannot be combined"),
    ("new_tokens_are_trained", "adapter: lora\ntokens: [<a>]", "tokens", "does not train the embeddings of added tokens"),
    ("relora_needs_restarts", "adapter: lora\nrelora: true", "relora", "needs jagged_restart_steps"),
    ("relora_needs_restarts", "relora: true\njagged_restart_steps: 5", "relora", "needs adapter"),
    ("relora_needs_restarts", "adapter: lora\nrelora: true\njagged_restart_steps: 5\ndeepspeed: zero2.json", "relora", "cannot be combined with deepspeed"),
    ("relora_needs_restarts", "adapter: lora\nrelora: true\njagged_restart_steps: 50\noptimizer: adafactor", "relora", "cannot be combined with optimizer: adafactor"),
    ("relora_needs_restarts", "adapter: lora\nrelora: true\njagged_restart_steps: 50\nval_set_size: 0.1\nload_best_model_at_end: true", "relora", "cannot be combined with load_best_model_at_end"),
    ("relora_needs_restarts", "adapter: lora\nrelora_prune_ratio: 0.5", "relora_prune_ratio", "has no effect without relora"),
    ("relora_adds_plain_lora", "adapter: lora\nrelora: true\njagged_restart_steps: 50\npeft_use_dora: true", "relora", "cannot be combined with peft_use_dora"),
    ("relora_adds_plain_lora", "adapter: lora\nrelora: true\njagged_restart_steps: 50\npeft: {loftq_config: {}}", "relora", "cannot be combined with loftq_config"),
    ("relora_adds_plain_lora", "adapter: lora\nrelora: true\njagged_restart_steps: 50\npeft_init_lora_weights: pissa", "relora", "cannot be combined with peft_init_lora_weights: pissa"),
    ("moe_quantization_needs_adapter", "quantize_moe_experts: true\nload_in_4bit: true", "quantize_moe_experts", "needs adapter"),
    ("moe_quantization_needs_adapter", "quantize_moe_experts: true\nadapter: lora", "quantize_moe_experts", "needs load_in_4bit"),
    ("moe_quantization_needs_adapter", "quantize_moe_experts: true\nadapter: lora\nload_in_4bit: true\nlora_target_linear: true", "lora_target_linear", "cannot be combined"),
    ("qat_or_quantized_base", "qat: {weight_dtype: int8}\nadapter: lora\nload_in_8bit: true", "qat", "cannot be combined with load_in_8bit"),
    ("qat_or_quantized_base", "qat: {weight_dtype: int4}\nadapter: lora", "qat", "cannot be combined with adapter"),
    ("qat_types_train", "qat: {weight_dtype: fp8}", "qat.weight_dtype", "not yet supported: fp8"),
    ("qat_types_train", "qat: {weight_dtype: int4, activation_dtype: fp8}", "qat.activation_dtype", "not yet supported: fp8"),
    ("bitnet_without_adapter", "use_onebitllms: true\nadapter: lora", "use_onebitllms", "cannot be combined"),
]  # fmt: skip

SPECTRUM = "plugins: [axolotl.integrations.spectrum.SpectrumPlugin]\n"
LAYERS: list[Case] = [
    ("spectrum_chooses_alone", "spectrum_top_fraction: 0.3", "spectrum_top_fraction", "has no effect without the Spectrum plugin"),
    ("spectrum_chooses_alone", SPECTRUM + "adapter: lora", "plugins", "cannot be combined with an adapter"),
    ("spectrum_chooses_alone", SPECTRUM + "unfrozen_parameters: [x]", "unfrozen_parameters", "cannot be combined with the Spectrum plugin"),
    ("lisa_switches_layers", "lisa_step_interval: 5", "lisa_step_interval", "has no effect without lisa_n_layers"),
    ("lisa_switches_layers", "lisa_n_layers: 2", "lisa_n_layers", "needs lisa_step_interval"),
    ("lisa_switches_layers", "lisa_n_layers: 2\nlisa_step_interval: 5\nadapter: lora", "lisa_n_layers", "cannot be combined with an adapter"),
    ("lisa_switches_layers", "lisa_n_layers: 2\nlisa_step_interval: 5\nunfrozen_parameters: [x]", "lisa_n_layers", "cannot be combined with unfrozen_parameters"),
    ("lisa_switches_layers", "lisa_n_layers: 2\nlisa_step_interval: 5\ndeepspeed: zero2", "lisa_n_layers", "cannot be combined with deepspeed"),
]  # fmt: skip

DATA: list[Case] = [
    ("one_source_of_evaluation", "val_set_size: 0.1\ntest_datasets: [{path: x}]", "val_set_size", "cannot be combined with test_datasets"),
    ("held_back_rows_are_a_number", "val_set_size: 10.5", "val_set_size", "has to be whole"),
    ("held_back_rows_are_a_number", "val_set_size: 1", "val_set_size", "hold back every row"),
    ("dataset_type_is_current", "test_datasets: [{path: x, type: sharegpt}]", "test_datasets[0].type", "sharegpt is gone"),
    ("dataset_type_is_current", "test_datasets: [{path: x, type: sharegpt.load_role}]", "test_datasets[0].type", "sharegpt is gone"),
    ("dataset_address_is_safe", "test_datasets: [{path: 'http://x/y.json'}]", "test_datasets[0].path", "only https:// is read"),
    ("shard_exists", "test_datasets: [{path: x, shards_idx: 1}]", "test_datasets[0].shards_idx", "needs shards"),
    ("shard_exists", "test_datasets: [{path: x, shards: 2, shards_idx: 2}]", "test_datasets[0].shards_idx", "only 2 shards"),
    ("shard_exists", "test_datasets: [{path: x, shards: 2, preprocess_shards: 2}]", "test_datasets[0].preprocess_shards", "cannot be combined"),
    ("shard_exists", "dataset_shard_idx: 1", "dataset_shard_idx", "needs dataset_shard_num"),
    ("shard_exists", "dataset_shard_idx: 3\ndataset_shard_num: 3", "dataset_shard_idx", "only 3 shards"),
    ("own_format_has_its_fields", "test_datasets: [{path: x, type: {no_input_format: '{input}'}}]", "test_datasets[0].type.no_input_format", "cannot hold {input}"),
    ("jinja_needs_template", "chat_template: jinja", "chat_template", "needs chat_template_jinja"),
    ("jinja_needs_template", "chat_template: chatml\nchat_template_jinja: x", "chat_template_jinja", "no effect beside chat_template: chatml"),
    ("jinja_needs_template", "test_datasets: [{path: x, chat_template: jinja}]", "test_datasets[0].chat_template", "needs chat_template_jinja"),
    ("mistral_common_takes_no_changes", "tokenizer_use_mistral_common: true\ntokens: [x]", "tokens", "cannot be combined"),
    ("packing_keeps_samples_apart", "sample_packing: true\nattn_implementation: some/paged", "attn_implementation", "cannot keep packed samples apart"),
    ("packing_keeps_samples_apart", "batch_flattening: true\nattn_implementation: some/paged", "attn_implementation", "cannot keep packed samples apart"),
    ("flash_attention_joins_rows", "sample_packing: true\nmultipack_real_batches: true\nattn_implementation: flash_attention_2", "multipack_real_batches", "within one row only"),
    ("packing_wants_full_rows", "sample_packing: true\npad_to_sequence_len: false", "pad_to_sequence_len", "true is better"),
    ("packing_keys_need_packing", "eval_sample_packing: true", "eval_sample_packing", "training is not"),
    ("packing_or_grouping", "sample_packing: true\ngroup_by_length: true", "group_by_length", "has no effect with sample_packing"),
    ("flattening_or_packing", "sample_packing: true\nbatch_flattening: true", "batch_flattening", "cannot be combined"),
    ("upload_needs_token", "push_dataset_to_hub: a/b", "push_dataset_to_hub", "needs hf_use_auth_token"),
    ("stream_has_no_end", "streaming: true", "streaming", "needs max_steps"),
    ("stream_keys_need_a_stream", "datasets: [{path: x}]\npretraining_dataset: [{path: y}]", "pretraining_dataset", "cannot be combined with datasets"),
    ("stream_keys_need_a_stream", "pretraining_dataset: [{path: y, type: alpaca}]", "pretraining_dataset[0].type", "plain text"),
    ("stream_keys_need_a_stream", "pretraining_sample_concatenation: true\nsample_packing: true", "pretraining_sample_concatenation", "no effect with sample_packing"),
    ("stream_keys_need_a_stream", "pretraining_sample_concatenation: true", "pretraining_sample_concatenation", "no effect without streaming"),
    ("repeated_rows_are_kept", "datasets: [{path: x, weight: 2}]\ndataset_exact_deduplication: true", "datasets[0].weight", "cannot be combined"),
    ("stream_has_no_end", "streaming: true\nmax_steps: 5\ndataset_shard_num: 2", "dataset_shard_num", "cannot be combined with streaming"),
    ("stream_has_no_end", "streaming: true\nmax_steps: 5\nval_set_size: 0.1", "val_set_size", "cannot be combined with streaming"),
    ("stream_has_no_end", "pretraining_dataset: [{path: x}]\nmax_steps: 5\ndataset_exact_deduplication: true", "dataset_exact_deduplication", "cannot be combined"),
    ("unprepared_data_is_not_deduplicated", "skip_prepare_dataset: true\ndataset_exact_deduplication: true", "dataset_exact_deduplication", "cannot be combined"),
    ("prefetching_needs_workers", "dataloader_prefetch_factor: 2\ndataloader_num_workers: 0", "dataloader_prefetch_factor", "needs dataloader_num_workers"),
    ("longest_sample_fits", "min_sample_len: 1024", "min_sample_len", "is above sequence_len (512)"),
]  # fmt: skip

SCHEDULE: list[Case] = [
    ("one_way_to_accumulate", "batch_size: 8", "batch_size", "cannot be combined with gradient_accumulation_steps"),
    ("one_warm_up", "warmup_steps: 5\nwarmup_ratio: 0.1", "warmup_steps", "cannot be combined with warmup_ratio"),
    ("schedule_keys_need_their_schedule", "lr_scheduler: linear\ncosine_min_lr_ratio: 0.1", "cosine_min_lr_ratio", "has no effect with lr_scheduler: linear"),
    ("schedule_keys_need_their_schedule", "lr_scheduler: rex\nlr_quadratic_warmup: true", "lr_quadratic_warmup", "has no effect with lr_scheduler: rex"),
    ("schedule_keys_need_their_schedule", "lr_div_factor: 10", "lr_div_factor", "has no effect with lr_scheduler: cosine"),
    ("schedule_keys_need_their_schedule", "lr_scheduler: constant\nwarmup_ratio: 0.1", "warmup_ratio", "has no effect with lr_scheduler: constant"),
    ("schedule_arguments_fit", "lr_scheduler: rex\nlr_scheduler_kwargs: {d: 1}", "lr_scheduler_kwargs", "rex takes no arguments here"),
    ("schedule_arguments_fit", "lr_scheduler: warmup_stable_decay", "lr_scheduler", "needs num_decay_steps"),
    ("schedule_arguments_fit", "lr_scheduler: cosine_with_min_lr", "lr_scheduler", "needs min_lr or min_lr_rate"),
    ("schedule_arguments_fit", "lr_scheduler: reduce_lr_on_plateau", "lr_scheduler", "needs evaluation data"),
    ("restarts_fit", "jagged_restart_anneal_steps: 3", "jagged_restart_anneal_steps", "needs jagged_restart_steps"),
    ("restarts_fit", "jagged_restart_steps: 50\nlr_scheduler: one_cycle", "jagged_restart_steps", "cannot be combined with lr_scheduler: one_cycle"),
    ("restarts_fit", "jagged_restart_steps: 10", "jagged_restart_steps", "is less than the steps of warm-up (10) and annealing (1)"),
    ("watchdog_needs_threshold", "loss_watchdog_patience: 3", "loss_watchdog_patience", "without loss_watchdog_threshold"),
    ("uploading_needs_repository", "hub_strategy: end", "hub_strategy", "without hub_model_id"),
    ("one_way_to_save", "save_steps: 5\nsaves_per_epoch: 1", "save_steps", "cannot be combined with saves_per_epoch"),
    ("one_way_to_save", "save_steps: 5\nsave_strategy: epoch", "save_steps", "cannot be combined with save_strategy: epoch"),
    ("one_way_to_save", "save_strategy: steps", "save_strategy", "needs save_steps"),
    ("best_needs_metric", "save_strategy: best\nval_set_size: 0.1", "save_strategy", "needs metric_for_best_model"),
    ("best_needs_metric", "load_best_model_at_end: true", "load_best_model_at_end", "needs evaluation data"),
    ("one_way_to_evaluate", "val_set_size: 0.1\neval_steps: 5\nevals_per_epoch: 1", "eval_steps", "cannot be combined with evals_per_epoch"),
    ("one_way_to_evaluate", "val_set_size: 0.1\neval_steps: 5\neval_strategy: epoch", "eval_steps", "cannot be combined with eval_strategy: epoch"),
    ("one_way_to_evaluate", "val_set_size: 0.1\nevals_per_epoch: 5\neval_strategy: no", "evals_per_epoch", "cannot be combined with eval_strategy: no"),
    ("evaluation_needs_data", "eval_steps: 5", "eval_steps", "needs evaluation data"),
    ("evaluation_needs_data", "evals_per_epoch: 5", "evals_per_epoch", "there is no evaluation data"),
    ("early_stopping_needs_steps", "val_set_size: 0.1\nearly_stopping_patience: 3", "early_stopping_patience", "needs save_steps and eval_steps"),
    ("early_stopping_needs_steps", "val_set_size: 0.1\nearly_stopping_patience: 3\nsave_steps: 10\neval_steps: 4", "save_steps", "has to be a multiple of eval_steps (4)"),
    ("uploading_needs_saving", "hub_model_id: a/b\nsave_strategy: no", "hub_model_id", "nothing is uploaded"),
    ("weights_alone_cannot_resume", "save_only_model: true\nauto_resume_from_checkpoints: true", "auto_resume_from_checkpoints", "cannot be resumed from"),
    ("generated_scores_need_plain_batches", "do_causal_lm_eval: true\nsample_packing: true", "do_causal_lm_eval", "needs eval_sample_packing: false"),
    ("generated_scores_need_plain_batches", "do_bench_eval: true", "do_bench_eval", "needs evals_per_epoch"),
    ("generated_scores_need_plain_batches", "eval_causal_lm_metrics: [bleurt]", "eval_causal_lm_metrics[0]", "unknown score 'bleurt'"),
]  # fmt: skip

COMPUTE: list[Case] = [
    ("one_number_format", "bf16: true\nfp16: true", "fp16", "cannot be combined with bf16"),
    ("one_number_format", "bfloat16: true\nfloat16: true", "float16", "cannot be combined with bfloat16"),
    ("one_number_format", "float32: true\nbf16: true", "float32", "cannot be combined with bf16: true"),
    ("fp8_gather_needs_fsdp2", "fp8_enable_fsdp_float8_all_gather: true", "fp8_enable_fsdp_float8_all_gather", "needs fsdp_version: 2"),
    ("offloading_needs_checkpointing", "activation_offloading: true", "activation_offloading", "needs gradient_checkpointing"),
    ("offloading_needs_checkpointing", "selective_checkpointing: true", "selective_checkpointing", "needs gradient_checkpointing"),
    ("frozen_parameters_need_plain_checkpointing", "gradient_checkpointing: true\ngradient_checkpointing_kwargs: {use_reentrant: true}\nunfrozen_parameters: [x]", "gradient_checkpointing_kwargs.use_reentrant", "has to be false"),
    ("frozen_parameters_need_plain_checkpointing", "gradient_checkpointing: true\ngradient_checkpointing_kwargs: {use_reentrant: true}\nselective_checkpointing: true", "gradient_checkpointing_kwargs.use_reentrant", "has to be false"),
    ("compile_options_need_compile", "torch_compile_options: {shape_padding: true}", "torch_compile_options", "needs torch_compile"),
    ("compile_options_need_compile", "torch_compile_mode: max-autotune", "torch_compile_mode", "has no effect without"),
    ("compile_options_need_compile", "torch_compile: true\ntorch_compile_options: {shape_pading: true}", "torch_compile_options.shape_pading", "unknown flag"),
    ("slow_tokenizers_are_gone", "tokenizer_use_fast: false", "tokenizer_use_fast", "the Rust tokenizers only"),
    ("memory_limits_are_amounts", "gpu_memory_limit: 20 potatoes", "gpu_memory_limit", "'20 potatoes' is not an amount of memory"),
    ("memory_limits_are_amounts", "gpu_memory_limit: 0", "gpu_memory_limit", "no memory at all"),
    ("memory_limits_are_amounts", "max_memory: {0: 20GiB, 1: lots}", "max_memory[1]", "'lots' is not an amount"),
    ("memory_limits_are_amounts", "max_memory: {0: 20GiB, cpu: 64GiB}", "max_memory.cpu", "each process trains on its own GPU"),
    ("one_memory_limit", "max_memory: {0: 20GiB}\ngpu_memory_limit: 20", "max_memory", "cannot be combined with gpu_memory_limit"),
    ("one_cross_entropy", "liger_cross_entropy: true\nliger_fused_linear_cross_entropy: true", "liger_fused_linear_cross_entropy", "cannot be combined with liger_cross_entropy"),
    ("liger_conflicts", "liger_use_token_scaling: true", "liger_use_token_scaling", "needs liger_fused_linear_cross_entropy"),
    ("liger_conflicts", "liger_glu_activation: true\ntiled_mlp: true\ntiled_mlp_use_original_mlp: false", "liger_glu_activation", "needs tiled_mlp_use_original_mlp"),
    ("liger_conflicts", "liger_rms_norm: true\ntensor_parallel_size: 2", "liger_rms_norm", "cannot be combined with tensor_parallel_size"),
    ("fused_mlp_or_adapter", "adapter: lora\nflash_attn_fuse_mlp: true", "flash_attn_fuse_mlp", "cannot be combined with an adapter"),
    ("scaled_softmax_needs_flex", "scaling_softmax: true", "scaling_softmax", "needs attn_implementation: flex_attention"),
    ("adam_keys_need_adam", "optimizer: sgd\nadam_beta2: 0.95", "adam_beta2", "has no effect with optimizer: sgd"),
    ("optimizer_arguments_fit", "optim_args: {a: 1}", "optim_args", "has no effect with optimizer: adamw_torch_fused"),
    ("optimizer_arguments_fit", "adam_beta3: 0.9", "adam_beta3", "has no effect with optimizer: adamw_torch_fused"),
    ("one_embedding_rate", "embedding_lr: 1e-4\nembedding_lr_scale: 0.5", "embedding_lr", "cannot be combined with embedding_lr_scale"),
    ("layerwise_optimizer_fits", "optimizer: apollo_adamw_layerwise\noptim_target_modules: all-linear\ngradient_accumulation_steps: 2", "gradient_accumulation_steps", "has to be 1 with apollo_adamw_layerwise"),
    ("projected_optimizer_needs_modules", "optimizer: galore_adamw", "optimizer", "needs optim_target_modules"),
    ("projected_optimizer_needs_modules", "optim_target_modules: [attn]", "optim_target_modules", "has no effect with optimizer"),
    ("optimizer_can_be_sharded", "fsdp_version: 2\noptimizer: adamw_8bit", "optimizer", "cannot be combined with FSDP"),
    ("optimizer_can_be_sharded", "deepspeed: zero2.json\noptimizer: muon", "optimizer", "cannot be combined with DeepSpeed"),
    ("optimizer_can_be_sharded", "adapter: lora\noptimizer: q_galore_adamw8bit", "optimizer", "cannot be combined with an adapter"),
    ("optimizer_can_be_sharded", "tensor_parallel_size: 2\noptimizer: adamw_8bit", "optimizer", "cannot be combined with tensor_parallel_size"),
    ("deepspeed_or_fsdp", "deepspeed: zero2.json\nfsdp_version: 2", "deepspeed", "cannot be combined with fsdp_version"),
    ("deepspeed_or_fsdp", "deepspeed: zero2.json\nfsdp_config: {offload_params: true}", "deepspeed", "cannot be combined with fsdp_config"),
    ("deepspeed_or_fsdp", "deepspeed: zero2.json\nfsdp: [full_shard]", "deepspeed", "cannot be combined with fsdp"),
    ("fsdp_settings_fit", "fsdp_version: 2\nfsdp_config: {auto_wrap_policy: SIZE_BASED_WRAP}", "fsdp_config.auto_wrap_policy", "needs min_num_params"),
    ("fsdp_settings_fit", "fsdp_version: 2\nfsdp_config: {cpu_offload_pin_memory: false}", "fsdp_config.cpu_offload_pin_memory", "needs offload_params"),
    ("fsdp_settings_fit", "fsdp_version: 2\ngradient_checkpointing: true\nfsdp_config: {activation_checkpointing: true}", "fsdp_config.activation_checkpointing", "one of them is enough"),
    ("fsdp_settings_fit", "fsdp_version: 2\nmodel_quantization_config: Mxfp4Config\nfsdp_config: {cpu_ram_efficient_loading: true}", "fsdp_config.cpu_ram_efficient_loading", "cannot be combined with Mxfp4Config"),
    ("float32_norms_need_fsdp", "fp32_norms: true", "fp32_norms", "needs fsdp_version: 2"),
    ("deepcompile_needs_deepspeed", "deepcompile: true", "deepcompile", "needs deepspeed"),
    ("zero3_with_quantized_base", "adapter: qlora\nload_in_4bit: true\ndeepspeed: zero3.json\ngradient_checkpointing: true\ngradient_checkpointing_kwargs: {use_reentrant: false}", "gradient_checkpointing_kwargs.use_reentrant", "may fail with qlora"),
    ("context_parallelism_needs_flash", "context_parallel_size: 2", "context_parallel_size", "needs attn_implementation"),
    ("context_parallelism_needs_flash", "context_parallel_size: 2\nattn_implementation: flash_attention_2\nsample_packing: true\nmicro_batch_size: 2", "micro_batch_size", "has to be 1"),
]  # fmt: skip

SHARDING: list[Case] = [
    ("fsdp_words_are_known", "fsdp: [full_shard, auto_warp]", "fsdp[1]", "unknown word 'auto_warp'"),
    ("fsdp_words_are_known", "fsdp: [hybrid_shard]", "fsdp[0]", "not possible: hybrid_shard"),
    ("fsdp_words_are_known", "fsdp: [no_shard]", "fsdp[0]", "not possible: no_shard"),
    ("fsdp_saves_what_it_can", "fsdp_version: 2\nfsdp_config: {state_dict_type: LOCAL_STATE_DICT}", "fsdp_config.state_dict_type", "went with the first FSDP"),
    ("fsdp_saves_what_it_can", "fsdp_version: 2\nsave_only_model: true\nfsdp_config: {state_dict_type: SHARDED_STATE_DICT}", "save_only_model", "cannot be combined with SHARDED_STATE_DICT"),
    ("fsdp_saves_what_it_can", "fsdp_version: 2\nfsdp_config: {final_state_dict_type: SHARDED_STATE_DICT}", "fsdp_config.final_state_dict_type", "saved in one piece"),
    ("best_model_can_be_loaded", "deepspeed: zero2\nsave_only_model: true\nload_best_model_at_end: true\nval_set_size: 0.1\nmetric_for_best_model: loss", "save_only_model", "cannot be combined with load_best_model_at_end and deepspeed"),
    ("best_model_can_be_loaded", "fsdp_version: 2\nsave_only_model: true\nload_best_model_at_end: true\nval_set_size: 0.1\nmetric_for_best_model: loss", "save_only_model", "cannot be combined with load_best_model_at_end and fsdp_version"),
    ("deepspeed_number_format_fits", "bf16: false\ndeepspeed: deepspeed_configs/zero3_bf16.json", "bf16", "cannot be false: deepspeed_configs/zero3_bf16.json sets bf16"),
    ("deepspeed_number_format_fits", "fp16: true\nbf16: auto\ndeepspeed: {bf16: {enabled: true}}", "fp16", "cannot be true: deepspeed sets bf16"),
]  # fmt: skip

PREFERENCE: list[Case] = [
    ("preference_data_is_not_packed", "rl: dpo\nsample_packing: true", "sample_packing", "cannot be combined with rl: dpo"),
    ("preference_data_is_not_packed", "reward_model: true\nsample_packing: true", "sample_packing", "cannot be combined with reward_model: true"),
    ("preference_data_is_not_streamed", "rl: dpo\nstreaming: true\nmax_steps: 5", "streaming", "cannot be combined with rl: dpo"),
    ("preference_trains_on_answers", "rl: dpo\ntrain_on_inputs: true", "train_on_inputs", "has no effect with rl: dpo"),
    ("preference_trains_on_answers", "rl: dpo\ndatasets: [{path: x, type: passthrough, roles_to_train: [user]}]", "datasets[0].roles_to_train", "has no effect with rl: dpo"),
    ("kto_keeps_its_columns", "rl: kto", "rl", "has to be false with rl: kto"),
    ("dpo_losses_fit", "rl: ipo", "rl", "is the old spelling of rl: dpo"),
    ("dpo_losses_fit", "rl: dpo\ndpo_loss_weights: [1]", "dpo_loss_weights", "needs dpo_loss_type"),
    ("dpo_losses_fit", "rl: dpo\ndpo_loss_type: [sigmoid, sft]\ndpo_loss_weights: [1]", "dpo_loss_weights", "has 1 entries and dpo_loss_type has 2"),
    ("dpo_losses_fit", "dpo_loss_type: [ipo]", "dpo_loss_type", "is for rl: dpo only"),
    ("simpo_warms_up_in_steps", "rl: simpo\nwarmup_ratio: 0.1", "warmup_ratio", "cannot be combined with rl: simpo"),
    ("grpo_groups_fill_the_batch", "rl: grpo\ntrl: {num_generations: 1}", "trl.num_generations", "has to be at least 2"),
    ("grpo_groups_fill_the_batch", "rl: grpo\ntrl: {num_generations: 8}\nmicro_batch_size: 2\ngradient_accumulation_steps: 3", "trl.num_generations", "cannot be divided into groups of 8"),
    ("gdpo_normalizes_first", "rl: gdpo\ntrl: {multi_objective_aggregation: sum_then_normalize}", "trl.multi_objective_aggregation", "is GRPO"),
    ("ebft_needs_settings", "rl: ebft", "rl", "needs an ebft: section"),
    ("rl_is_supported", "rl: ebft\nebft: {}", "rl", "not yet supported: energy-based fine-tuning"),
    ("losses_are_known", "rl: dpo\ndpo_loss_type: [sigmiod]", "dpo_loss_type[0]", "unknown loss 'sigmiod'"),
    ("losses_have_what_they_need", "rl: dpo\ndpo_label_smoothing: 0.1", "dpo_label_smoothing", "has no effect with dpo_loss_type sigmoid"),
    ("losses_have_what_they_need", "rl: dpo\ndpo_loss_type: [robust]\ndpo_label_smoothing: 0.5", "dpo_label_smoothing", "has to be below 0.5"),
    ("losses_have_what_they_need", "rl: dpo\ndpo_loss_type: [exo_pair]", "dpo_loss_type", "exo_pair needs dpo_label_smoothing"),
    ("losses_have_what_they_need", "rl: dpo\ndpo_loss_type: [aot]\ndpo_use_weighting: true", "dpo_use_weighting", "losses that sort pairs"),
    ("keys_go_with_their_method", "rl: dpo\nsimpo_gamma: 1", "simpo_gamma", "has no effect with rl: dpo"),
    ("keys_go_with_their_method", "rl_beta: 0.1", "rl_beta", "has no effect with supervised fine-tuning"),
    ("keys_go_with_their_method", "rl: orpo\nprecompute_ref_log_probs: true", "precompute_ref_log_probs", "has no effect with rl: orpo"),
    ("beta_is_positive", "rl: dpo\nrl_beta: 0", "rl_beta", "has to be above 0"),
    ("beta_is_positive", "rl: kto\ntrl: {beta: 0}", "trl.beta", "has to be above 0"),
    ("kto_compares_within_batches", "rl: kto\nmicro_batch_size: 1", "micro_batch_size", "has to be at least 2"),
    ("kto_compares_within_batches", "rl: kto\nmicro_batch_size: 2\neval_batch_size: 1", "eval_batch_size", "has to be at least 2"),
    ("kto_compares_within_batches", "rl: kto\nmicro_batch_size: 2\ngroup_by_length: true", "group_by_length", "has no effect with rl: kto"),
    ("dropout_is_off", "rl: dpo\nadapter: lora\nlora_dropout: 0.05", "lora_dropout", "has no effect with rl: dpo"),
    ("head_has_no_adapter", "rl: dpo\nadapter: lora\nlora_target_modules: [q_proj, lm_head]", "lora_target_modules", "lm_head cannot be combined"),
    ("head_has_no_adapter", "rl: orpo\nadapter: lora\nlora_target_modules: '.*(proj|head)'", "lora_target_modules", "lm_head cannot be combined"),
    ("liger_losses_are_not_used", "rl: dpo\nliger_fused_linear_cross_entropy: true", "liger_fused_linear_cross_entropy", "has no effect with rl: dpo"),
    ("fsdp2_takes_no_quantized_pairs", "rl: dpo\nfsdp_version: 2\nadapter: lora\nload_in_4bit: true", "load_in_4bit", "cannot be combined with rl: dpo under FSDP2"),
    ("one_kind_of_reward", "reward_model: true\nprocess_reward_model: true", "reward_model", "cannot be combined with process_reward_model"),
    ("one_kind_of_reward", "reward_model: true\nrl: dpo", "reward_model", "cannot be combined with rl: dpo"),
    ("head_has_its_size", "reward_model: true\nnum_labels: 2", "num_labels", "has to be 1 with reward_model: true"),
    ("head_has_its_size", "process_reward_model: true\nnum_labels: 1", "num_labels", "has to be 2 with process_reward_model: true"),
    ("head_has_its_size", "num_labels: 2", "num_labels", "has no effect without reward_model"),
    ("class_has_the_head", "reward_model: true\nmodel_type: LlamaForCausalLM", "model_type", "LlamaForCausalLM has no head for reward_model: true"),
    ("centering_is_for_pairs", "center_rewards_coefficient: 0.01", "center_rewards_coefficient", "has no effect without reward_model: true"),
    ("judges_write_nothing", "reward_model: true\ngenerate_samples: true", "generate_samples", "has no effect with reward_model: true"),
    ("pairs_have_no_one_length", "reward_model: true\ngroup_by_length: true", "group_by_length", "cannot be combined with reward_model: true"),
    ("rewards_are_named", "rl: grpo", "rl", "rl: grpo needs trl.reward_funcs"),
    ("rewards_are_named", "rl: gdpo\ntrl: {num_generations: 2}\nmicro_batch_size: 2", "trl", "rl: gdpo needs trl.reward_funcs"),
    ("rewards_are_named", "rl: grpo\ntrl: {reward_funcs: [score]}", "trl.reward_funcs[0]", "score is no path of a function"),
    ("rewards_are_named", "rl: grpo\ntrl: {reward_funcs: [a.b], reward_weights: [1, 2]}", "trl.reward_weights", "has 2 entries and reward_funcs has 1"),
    ("online_keys_are_supported", "rl: grpo\ntrl: {reward_funcs: [a.b], replay_buffer_size: 4}", "trl.replay_buffer_size", "not yet supported: asynchronous"),
    ("online_keys_are_supported", "rl: grpo\ntrl: {reward_funcs: [a.b], use_data_producer: true}", "trl.use_data_producer", "not yet supported: asynchronous"),
    ("online_keys_are_supported", "rl: grpo\ntrl: {reward_funcs: [a.b], use_liger_loss: true}", "trl.use_liger_loss", "has no effect here"),
    ("answers_are_sampled", "rl: grpo\ntrl: {reward_funcs: [a.b], temperature: 0}", "trl.temperature", "has to be greater than 0"),
    ("reference_can_move", "rl: grpo\nadapter: lora\ntrl: {reward_funcs: [a.b], sync_ref_model: true, beta: 0.1}", "trl.sync_ref_model", "cannot be combined with an adapter"),
    ("reference_can_move", "rl: grpo\ntrl: {reward_funcs: [a.b], sync_ref_model: true}", "trl.sync_ref_model", "needs beta"),
    ("online_needs_a_writer", "rl: grpo\ntrl: {reward_funcs: [a.b]}\nliger_fused_linear_cross_entropy: true", "liger_fused_linear_cross_entropy", "cannot be combined with rl: grpo"),
    ("online_needs_a_writer", "rl: grpo\ntrl: {reward_funcs: [a.b]}\nadapter: lora\nlora_target_modules: [lm_head]", "lora_target_modules", "lm_head cannot have an adapter"),
    ("server_is_used", "rl: grpo\ntrl: {reward_funcs: [a.b]}\nvllm: {port: 8000}", "vllm", "has no effect without trl: {use_vllm: true}"),
    ("server_is_used", "rl: grpo\ntrl: {reward_funcs: [a.b], use_vllm: true}\nvllm: {dtype: auto}", "vllm.dtype", "it is a setting of the server"),
]  # fmt: skip

LAUNCH: list[Case] = [
    ("environment_holds_no_secrets", "launch: {env: {WANDB_API_KEY: abc}}", "launch.env.WANDB_API_KEY", "looks like a secret"),
    ("environment_holds_no_secrets", "launch: {env: {MINE: hf_abcdefghijklmn}}", "launch.env.MINE", "looks like a secret"),
    ("environment_holds_no_secrets", "launch: {env: {'A B': x}}", "launch.env.A B", "cannot be the name"),
    ("secrets_are_names", "launch: {secrets: [hf_abcdefghijklmn]}", "launch.secrets[0]", "has to be the name"),
    ("secrets_are_names", "launch: {secrets: ['HF_TOKEN=x']}", "launch.secrets[0]", "has to be the name"),
    ("secrets_are_names", "launch: {secrets: [MINE], env: {MINE: x}}", "launch.secrets[0]", "stands in launch.env too"),
    ("addresses_hold_no_credentials", "checkpoint: s3://key:secret@bucket/x", "checkpoint", "holds credentials"),
    ("accelerators_are_well_formed", "launch: {accelerators: '8 x H100'}", "launch.accelerators", "is not a GPU with a number"),
    ("sizes_are_well_formed", "launch: {memory: 64GB}", "launch.memory", "is not a size"),
    ("sizes_are_well_formed", "launch: {cpus: -1}", "launch.cpus", "is not a size"),
    ("zone_needs_region", "launch: {zone: us-east-1a}", "launch.zone", "needs launch.region"),
    ("only_whole_buckets_are_mounted", "launch: {file_mounts: {/d: {source: ./data, mode: mount}}}", "launch.file_mounts./d.source", "only a bucket can"),
    ("only_whole_buckets_are_mounted", "launch: {file_mounts: {/d: {source: 'pvc://x', mode: mount_cached}}}", "launch.file_mounts./d.source", "only a bucket can"),
    ("only_whole_buckets_are_mounted", "launch: {file_mounts: {/d: {source: 's3://x/y', mode: mount}}}", "launch.file_mounts./d.source", "only a whole bucket can"),
    ("registry_credentials_are_complete", "launch: {secrets: [SKYPILOT_DOCKER_PASSWORD]}", "launch.secrets", "lacks SKYPILOT_DOCKER_USERNAME and SKYPILOT_DOCKER_SERVER"),
    ("registry_credentials_are_complete", "launch: {env: {SKYPILOT_DOCKER_SERVER: x}}", "launch.env.SKYPILOT_DOCKER_SERVER", "belongs to the registry's login"),
    ("spot_needs_checkpoints", "launch: {spot: true}", "launch.spot", "is lost with the machine"),
]  # fmt: skip

NAMES: list[Case] = [
    ("optimizer_is_known", "optimizer: adamw_tosch", "optimizer", "unknown optimizer 'adamw_tosch'"),
    ("optimizer_is_known", "optimizer: dion", "optimizer", "not yet supported: the optimizer dion"),
    ("scheduler_is_known", "lr_scheduler: cosin", "lr_scheduler", "unknown scheduler 'cosin'"),
    ("scheduler_is_known", "lr_scheduler: jagged_restart", "lr_scheduler", "is not a scheduler's name"),
    ("attention_is_known", "attn_implementation: flash", "attn_implementation", "unknown attention 'flash'"),
    ("attention_is_known", "attn_implementation: sage", "attn_implementation", "not yet supported: SageAttention"),
    ("adapter_is_known", "adapter: lora2", "adapter", "unknown adapter 'lora2'"),
    ("adapter_is_known", "adapter: llama-adapter", "adapter", "not yet supported: the adapter llama-adapter"),
    ("chat_template_is_known", "chat_template: chatlm", "chat_template", "unknown chat template 'chatlm'"),
    ("chat_template_is_known", "test_datasets: [{path: x, chat_template: y}]", "test_datasets[0].chat_template", "unknown chat template"),
    ("file_kind_is_known", "test_datasets: [{path: x, ds_type: jsonl}]", "test_datasets[0].ds_type", "unknown kind of file 'jsonl'"),
]  # fmt: skip

CASES = [*ADAPTERS, *LAYERS, *DATA, *SCHEDULE, *COMPUTE, *SHARDING, *PREFERENCE, *LAUNCH, *NAMES]

INCOMPLETE: list[Case] = [
    ("needs_base_model", "base_model:", "base_model", "is missing"),
    ("needs_datasets", "datasets:", "datasets", "is missing"),
    ("needs_dataset_path", "datasets: [{type: alpaca}]", "datasets[0]", "has no path"),
    (
        "needs_dataset_path",
        "datasets: null\nmax_steps: 5\npretraining_dataset: [{type: pretrain}]",
        "pretraining_dataset[0]",
        "has no path",
    ),
    ("needs_dataset_path", "datasets: [{path: ..., type: alpaca}]", "datasets[0].path", "fill in"),
    ("needs_learning_rate", "learning_rate:", "learning_rate", "is missing"),
    ("quantized_base_needs_adapter", "load_in_8bit: true", "load_in_8bit", "needs an adapter"),
]


def merged(lines: str) -> str:
    """BASE with the keys of ``lines`` in place of its own."""
    keys = [line.split(":")[0] for line in lines.splitlines()]
    kept: list[str] = []
    skipping = False
    for line in BASE.splitlines():
        if not line.startswith(" "):
            skipping = line.split(":")[0] in keys
        if not skipping:
            kept.append(line)
    return "\n".join([*kept, lines]) + "\n"


def run_one(name: str, text: str, monkeypatch: pytest.MonkeyPatch, *, partial: bool) -> list[tuple[str, str]]:
    """(key, message) of the findings of one rule."""
    rules = [rule for rule in registry.all_rules(partial=partial) if rule.__name__ == name]  # type: ignore[attr-defined]
    assert len(rules) == 1, f"no rule {name}"

    def only_this(*, partial: bool) -> Iterable[Rule]:
        return rules

    monkeypatch.setattr(registry, "all_rules", only_this)
    return [(problem.key, problem.message) for problem in problems_of(text, partial=partial, statuses=False)]


@pytest.mark.parametrize(("rule", "lines", "key", "message"), CASES, ids=lambda value: None)
def test_rule(rule: str, lines: str, key: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_one(rule, merged(lines), monkeypatch, partial=True)
    assert [found for found in findings if found[0] == key and message in found[1]], findings


@pytest.mark.parametrize(("rule", "lines", "key", "message"), INCOMPLETE, ids=lambda value: None)
def test_completeness(rule: str, lines: str, key: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = run_one(rule, merged(lines), monkeypatch, partial=False)
    assert [found for found in findings if found[0] == key and message in found[1]], findings


@pytest.mark.parametrize("lines", [case[1] for case in INCOMPLETE])
def test_partial_config_may_leave_it_out(lines: str) -> None:
    assert problems_of(merged(lines)) == []


def test_every_rule_has_a_case_and_a_sentence() -> None:
    rules = {rule.__name__: rule for topic in TOPICS for rule in topic.RULES}
    assert set(rules) == {case[0] for case in [*CASES, *INCOMPLETE]}
    assert all(rule.__doc__ for rule in rules.values())


FINE = [
    "adapter: qlora\nload_in_4bit: true\nlora_target_linear: true",
    "adapter: lora\nload_in_4bit: true\nbnb_4bit_quant_type: nf4",
    "adapter: lora\nload_in_8bit: true\nlora_target_modules: '.*[qv]_proj'",
    "sample_packing: true\nattn_implementation: sdpa",
    "batch_flattening: auto\nattn_implementation: some/paged",
    "sample_packing: true\nmultipack_real_batches: true\nattn_implementation: sdpa",
    "sample_packing: true\nattn_implementation: kernels-community/flash-attn3",
    "val_set_size: 200",
    "val_set_size: 0.05\neval_steps: 10\nsave_steps: 20\nearly_stopping_patience: 2",
    "val_set_size: 0.05\neval_steps: 0.1\nsave_steps: 0.3\nearly_stopping_patience: 2",
    "test_datasets: [{path: x}]\neval_strategy: epoch",
    "eval_strategy: no",
    "bf16: auto\nfp16: true",
    "bf16: auto\nfp16: false",
    "bfloat16: true\nbf16: true",
    "deepspeed: deepspeed_configs/zero3_bf16.json",
    "deepspeed: my/own.json",
    "fsdp_version: 2\nfsdp_config: {offload_params: true}\noptimizer: adamw_torch_8bit",
    "chat_template: tokenizer_default_fallback_chatml",
    "chat_template_jinja: '{{ messages }}'",
    "optimizer: galore_adamw\noptim_target_modules: [attn]",
    "optimizer: muon\nlr_scheduler: rex\ncosine_min_lr_ratio: 0.1\noptim_args: {momentum: 0.9}",
    "jagged_restart_steps: 20\ncosine_min_lr_ratio: 0.01\nlr_scheduler: linear",
    "unfrozen_parameters: ['^lm_head.weight$[:32]', 'model.layers.1[0-9]+.*']",
    "lr_scheduler: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-6}",
    "ray_num_workers: 2",
    "rl: dpo\nrl_beta: 0.2\ndpo_loss_type: [robust, sft]\ndpo_loss_weights: [1, 0.5]\ndpo_label_smoothing: 0.1",
    "rl: dpo\nadapter: lora\nlora_target_modules: all-linear\nprecompute_ref_log_probs: true",
    "rl: kto\nmicro_batch_size: 2\nremove_unused_columns: false\nkto_desirable_weight: 1.3",
    "rl: orpo\norpo_alpha: 0.1",
    "rl: simpo\nrl_beta: 2\nsimpo_gamma: 0.5\ncpo_alpha: 0\nwarmup_steps: 5",
    "gradient_accumulation_steps:\nmicro_batch_size: 2",
    "micro_batch_size:\ngradient_accumulation_steps:",
    "gradient_accumulation_steps:\nmicro_batch_size: 2\nbatch_size: 8",
    "launch: {env: {TOKENIZERS_PARALLELISM: 'false', NCCL_DEBUG: INFO}, secrets: [HF_TOKEN]}",
    "launch: {spot: true, checkpoint_bucket: 's3://x', accelerators: 'H100:8', cpus: 8+, memory: 64}",
    "launch: {file_mounts: {/d: {source: 's3://x', mode: mount}, /h: {source: 'hf://a/b', mode: mount}, /c: {source: 's3://x/y'}, /e: ./data}}",
    "launch: {secrets: [SKYPILOT_DOCKER_USERNAME, SKYPILOT_DOCKER_PASSWORD, SKYPILOT_DOCKER_SERVER]}",
    "launch: {accelerators: {A100-80GB: 8}}",
    "launch: {accelerators: [L4, 'A10G:4']}",
    "launch: {accelerators: 'RTX-4090:0.5'}",
    "reward_model: true\nmodel_type: AutoModelForSequenceClassification\nnum_labels: 1",
    "process_reward_model: true\nmodel_type: AutoModelForTokenClassification\nnum_labels: 2\ngroup_by_length: true",
    "rl: grpo\ntrl: {reward_funcs: [a.b, own/judge], reward_weights: [1, 2], beta: 0.1, sync_ref_model: true}",
    "rl: grpo\ntrl: {reward_funcs: [a.b], use_vllm: true, reroll_start_fraction: 1.0, reward_num_workers: 1}",
]


@pytest.mark.parametrize("lines", FINE)
def test_nothing_is_said_of_what_is_fine(lines: str) -> None:
    assert problems_of(merged(lines), partial=False) == []


def test_findings_do_not_echo_an_error() -> None:
    """A key whose value is wrong already gets no second complaint."""
    found = [problem.message for problem in problems_of(merged("adapter: qlora\nload_in_4bit: maybe"))]
    assert found == ["expected true or false, got the text 'maybe'"]


def test_batch_size_has_to_be_a_multiple() -> None:
    text = merged("gradient_accumulation_steps:\nmicro_batch_size: 3\nbatch_size: 8")
    (problem,) = problems_of(text, partial=False)
    assert problem.message == "is not a multiple of micro_batch_size (3)"


def test_smallest_fix_for_groups_is_worked_out() -> None:
    text = merged(
        "rl: grpo\ntrl: {num_generations: 8, reward_funcs: [a.b]}\nmicro_batch_size: 2\ngradient_accumulation_steps: 3"
    )
    (problem,) = problems_of(text, statuses=False)
    assert problem.hint == "gradient_accumulation_steps: 4 is the smallest that fits"
