"""Precision, memory, kernels, optimizers, distribution."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.memory_size import parse_memory_size
from ftl_config.nodes import Path
from ftl_config.optimizers import TAKE_OPTIM_ARGS
from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config
from ftl_config.wordlist import words

COMPLETENESS = False

_INDUCTOR_FLAGS = frozenset(
    words("""
        coordinate_descent_tuning coordinate_descent_check_all_directions shape_padding epilogue_fusion
        max_autotune_gemm fx_graph_cache assume_aligned_inputs comprehensive_padding decompose_mem_bound_mm
        triton.cudagraphs
    """)
)
_ADAM_LIKE = ("adam", "ademamix", "adopt", "muon", "lamb", "apollo", "galore", "lion", "came")


def one_number_format(config: Config) -> Iterator[Finding]:
    """Formats exclude each other; `bf16: auto` gives way to what is asked for."""
    precision = config.precision
    if precision.bf16 in (True, "full") and precision.fp16:
        yield error("cannot be combined with bf16: true", "fp16", "bf16", hint="keep one of the two")
    whole = [key for key in ("bfloat16", "float16", "float32") if getattr(precision, key)]
    for key in whole[1:]:
        yield error(f"cannot be combined with {whole[0]}", key, whole[0])
    mixed = [key for key in ("bf16", "fp16") if getattr(precision, key) is True]
    if whole[:1] == ["float32"] and mixed:
        yield error(f"cannot be combined with {mixed[0]}: true", "float32", mixed[0])


def fp8_gather_needs_fsdp2(config: Config) -> Iterator[Finding]:
    """FSDP gathers in FP8 only where FSDP gathers."""
    if config.precision.fp8_enable_fsdp_float8_all_gather and not config.distributed.fsdp_key:
        yield error("needs fsdp_version: 2", "fp8_enable_fsdp_float8_all_gather", "fsdp_version")


def offloading_needs_checkpointing(config: Config) -> Iterator[Finding]:
    """What is offloaded are the inputs that checkpointing keeps."""
    training = config.training
    for key in ("activation_offloading", "selective_checkpointing"):
        if getattr(training, key) and not training.gradient_checkpointing:
            yield error("needs gradient_checkpointing: true", key, "gradient_checkpointing")


def frozen_parameters_need_plain_checkpointing(config: Config) -> Iterator[Finding]:
    """Reentrant checkpointing loses gradients where a segment's inputs are frozen."""
    reentrant = (config.training.gradient_checkpointing_kwargs or {}).get("use_reentrant")
    path = ("gradient_checkpointing_kwargs", "use_reentrant")
    if reentrant and config.training.unfrozen_parameters:
        yield error("has to be false with unfrozen_parameters", path, "unfrozen_parameters")
    if reentrant and config.training.selective_checkpointing:
        yield error("has to be false with selective_checkpointing", path, "selective_checkpointing")


def compile_options_need_compile(config: Config) -> Iterator[Finding]:
    """Flags of the compiler without the compiler, and flags that are not let through."""
    options = config.training.torch_compile_options
    if options is not None and not config.training.torch_compile:
        yield error("needs torch_compile: true", "torch_compile_options", "torch_compile")
    for key in ("torch_compile_backend", "torch_compile_mode"):
        if getattr(config.training, key) is not None and not config.training.torch_compile:
            yield warning("has no effect without torch_compile: true", key, "torch_compile")
    for flag in options or ():
        if flag not in _INDUCTOR_FLAGS:
            hint = f"known are {', '.join(sorted(_INDUCTOR_FLAGS))}"
            yield error(f"unknown flag {flag!r}", ("torch_compile_options", flag), hint=hint)


def slow_tokenizers_are_gone(config: Config) -> Iterator[Finding]:
    """transformers 5 has one implementation of each tokenizer."""
    if not config.model.tokenizer_use_fast:
        yield warning("has no effect: transformers 5 has the Rust tokenizers only", "tokenizer_use_fast")


def one_memory_limit(config: Config) -> Iterator[Finding]:
    """A limit for each device, or one for all."""
    if config.model.max_memory is not None and config.model.gpu_memory_limit is not None:
        yield error("cannot be combined with gpu_memory_limit", "max_memory", "gpu_memory_limit")


def memory_limits_are_amounts(config: Config) -> Iterator[Finding]:
    """Amounts with a unit, for GPUs by their number."""
    limit, by_device = config.model.gpu_memory_limit, config.model.max_memory or {}
    given: list[tuple[Path, int | str, str]] = [] if limit is None else [(("gpu_memory_limit",), limit, "GiB")]
    given += [(("max_memory", name), value, "B") for name, value in by_device.items()]
    for path, value, unit in given:
        try:
            parse_memory_size(value, unit=unit)
        except ValueError as problem:
            yield error(str(problem), path, hint="write 20GiB")
    for name in by_device:
        if not str(name).isdigit():
            message = "has no effect: each process trains on its own GPU, and nothing is moved off it"
            yield warning(message, ("max_memory", name), hint="max_memory: {0: 20GiB} limits the first GPU")


def one_cross_entropy(config: Config) -> Iterator[Finding]:
    """The loss can be replaced once."""
    keys = (
        "cut_cross_entropy",
        "chunked_cross_entropy",
        "liger_cross_entropy",
        "liger_fused_linear_cross_entropy",
    )
    found = [key for key in keys if getattr(config.kernels, key)]
    for key in found[1:]:
        yield error(f"cannot be combined with {found[0]}", key, found[0], hint="keep one of the two")


def liger_conflicts(config: Config) -> Iterator[Finding]:
    """What Liger cannot do beside other things."""
    kernels = config.kernels
    if kernels.liger_use_token_scaling and not kernels.liger_fused_linear_cross_entropy:
        yield error(
            "needs liger_fused_linear_cross_entropy", "liger_use_token_scaling", "liger_fused_linear_cross_entropy"
        )
    if kernels.liger_glu_activation and kernels.tiled_mlp and not kernels.tiled_mlp_use_original_mlp:
        yield error("needs tiled_mlp_use_original_mlp: true with tiled_mlp", "liger_glu_activation", "tiled_mlp")
    if (config.distributed.tensor_parallel_size or 1) > 1:
        for key in ("liger_rms_norm", "liger_fused_linear_cross_entropy"):
            if getattr(kernels, key):
                yield error("cannot be combined with tensor_parallel_size", key, "tensor_parallel_size")


def fused_mlp_or_adapter(config: Config) -> Iterator[Finding]:
    """A fused MLP has no layers that an adapter could sit on."""
    if config.kernels.flash_attn_fuse_mlp and config.adapter.adapter:
        yield error("cannot be combined with an adapter", "flash_attn_fuse_mlp", "adapter")


def scaled_softmax_needs_flex(config: Config) -> Iterator[Finding]:
    """Only flex_attention lets scores be changed."""
    if config.model.scaling_softmax and config.model.attn_implementation != "flex_attention":
        yield error("needs attn_implementation: flex_attention", "scaling_softmax", "attn_implementation")


def adam_keys_need_adam(config: Config) -> Iterator[Finding]:
    """Betas for an optimizer that has none."""
    if any(part in config.training.optimizer for part in _ADAM_LIKE):
        return
    for key in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if getattr(config.training, key) is not None:
            yield warning(f"has no effect with optimizer: {config.training.optimizer}", key, "optimizer")


def optimizer_arguments_fit(config: Config) -> Iterator[Finding]:
    """Arguments for an optimizer that takes none of them."""
    training = config.training
    name = training.optimizer
    if training.optim_args and not name.startswith(TAKE_OPTIM_ARGS):
        yield warning(f"has no effect with optimizer: {name}", "optim_args", "optimizer")
    for key in ("adam_beta3", "adam_epsilon2"):
        if getattr(training, key) is not None and name != "came_pytorch":
            yield warning(f"has no effect with optimizer: {name}", key, "optimizer")


def one_embedding_rate(config: Config) -> Iterator[Finding]:
    """A rate, or a multiple of the learning rate."""
    if config.training.embedding_lr is not None and config.training.embedding_lr_scale is not None:
        hint = "keep one of the two"
        yield error("cannot be combined with embedding_lr_scale", "embedding_lr", "embedding_lr_scale", hint=hint)


def layerwise_optimizer_fits(config: Config) -> Iterator[Finding]:
    """It steps in the backward pass, so there is nothing to accumulate."""
    training = config.training
    if not training.optimizer.endswith("_layerwise"):
        return
    if training.gradient_accumulation_steps > 1:
        message = f"has to be 1 with {training.optimizer}"
        yield error(message, "gradient_accumulation_steps", "optimizer")


def projected_optimizer_needs_modules(config: Config) -> Iterator[Finding]:
    """GaLore and APOLLO work on the modules they are told."""
    optimizer = config.training.optimizer
    projects = optimizer.startswith(("galore", "apollo"))
    if projects and not config.training.optim_target_modules:
        hint = "optim_target_modules: [attn, mlp], or all-linear"
        yield error(f"{optimizer} needs optim_target_modules", "optimizer", "optim_target_modules", hint=hint)
    elif config.training.optim_target_modules and not projects and not optimizer.startswith("q_galore"):
        yield warning(f"has no effect with optimizer: {optimizer}", "optim_target_modules", "optimizer")


def optimizer_can_be_sharded(config: Config) -> Iterator[Finding]:
    """Optimizers whose kernels take whole tensors only, or only FSDP2's."""
    optimizer = config.training.optimizer
    fsdp = config.distributed.fsdp_key
    if fsdp and optimizer in ("adamw_8bit", "adamw_bnb_8bit"):
        hint = "optimizer: adamw_torch_8bit works"
        yield error(f"{optimizer} cannot be combined with FSDP", "optimizer", fsdp, hint=hint)
    if (optimizer == "muon" or optimizer.startswith(("flash_", "q_galore"))) and config.distributed.deepspeed:
        yield error(f"{optimizer} cannot be combined with DeepSpeed", "optimizer", "deepspeed")
    if optimizer.startswith("q_galore") and config.adapter.adapter:
        yield error(f"{optimizer} cannot be combined with an adapter", "optimizer", "adapter")
    if (config.distributed.tensor_parallel_size or 1) > 1 and "8bit" in optimizer:
        yield error(f"{optimizer} cannot be combined with tensor_parallel_size", "optimizer", "tensor_parallel_size")


def deepspeed_or_fsdp(config: Config) -> Iterator[Finding]:
    """Both shard the model."""
    fsdp = config.distributed.fsdp_key
    if config.distributed.deepspeed and fsdp:
        yield error(f"cannot be combined with {fsdp}", "deepspeed", fsdp, hint="keep one of the two")


def fsdp_settings_fit(config: Config) -> Iterator[Finding]:
    """Settings of FSDP that need each other."""
    settings = config.distributed.fsdp_config
    if settings is None:
        return
    if settings.auto_wrap_policy == "SIZE_BASED_WRAP" and settings.min_num_params is None:
        yield error("SIZE_BASED_WRAP needs min_num_params", ("fsdp_config", "auto_wrap_policy"))
    if settings.cpu_offload_pin_memory is False and not settings.offload_params:
        yield error("needs offload_params: true", ("fsdp_config", "cpu_offload_pin_memory"))
    if settings.activation_checkpointing and config.training.gradient_checkpointing:
        path = ("fsdp_config", "activation_checkpointing")
        yield warning("does the same as gradient_checkpointing: one of them is enough", path, "gradient_checkpointing")
    if settings.cpu_ram_efficient_loading and config.quantization.model_quantization_config == "Mxfp4Config":
        path = ("fsdp_config", "cpu_ram_efficient_loading")
        yield error("cannot be combined with Mxfp4Config", path, "model_quantization_config")


def float32_norms_need_fsdp(config: Config) -> Iterator[Finding]:
    """Without FSDP2 there is no sharding policy to give the norms."""
    if config.distributed.fp32_norms and config.distributed.fsdp_key is None:
        yield error("needs fsdp_version: 2", "fp32_norms", "fsdp_version")


def deepcompile_needs_deepspeed(config: Config) -> Iterator[Finding]:
    """DeepCompile is a part of DeepSpeed."""
    if config.distributed.deepcompile and not config.distributed.deepspeed:
        yield error("needs deepspeed", "deepcompile", "deepspeed")


def zero3_with_quantized_base(config: Config) -> Iterator[Finding]:
    """Recomputed activations of sharded 4-bit weights may differ in shape."""
    name = config.distributed.deepspeed
    is_zero3 = isinstance(name, str) and "zero3" in name
    if is_zero3 and config.adapter.adapter == "qlora":
        reentrant = (config.training.gradient_checkpointing_kwargs or {}).get("use_reentrant")
        if config.training.gradient_checkpointing and reentrant is False:
            path = ("gradient_checkpointing_kwargs", "use_reentrant")
            yield warning("false may fail with qlora under ZeRO-3", path, "deepspeed", "adapter")


def context_parallelism_needs_flash(config: Config) -> Iterator[Finding]:
    """Ring attention is built on flash attention, and packs one row at a time."""
    if (config.distributed.context_parallel_size or 1) <= 1 or config.kernels.use_glm_dsa_kernels:
        return
    if "flash" not in (config.model.attn_implementation or ""):
        yield error("needs attn_implementation: flash_attention_2", "context_parallel_size", "attn_implementation")
    if config.data.sample_packing and config.training.micro_batch_size > 1:
        yield error("has to be 1 with context_parallel_size and sample_packing", "micro_batch_size")


RULES: list[Rule] = [
    one_number_format,
    fp8_gather_needs_fsdp2,
    offloading_needs_checkpointing,
    frozen_parameters_need_plain_checkpointing,
    compile_options_need_compile,
    slow_tokenizers_are_gone,
    one_memory_limit,
    memory_limits_are_amounts,
    one_cross_entropy,
    liger_conflicts,
    fused_mlp_or_adapter,
    scaled_softmax_needs_flex,
    adam_keys_need_adam,
    optimizer_arguments_fit,
    one_embedding_rate,
    layerwise_optimizer_fits,
    projected_optimizer_needs_modules,
    optimizer_can_be_sharded,
    deepspeed_or_fsdp,
    fsdp_settings_fit,
    float32_norms_need_fsdp,
    deepcompile_needs_deepspeed,
    zero3_with_quantized_base,
    context_parallelism_needs_flash,
]
