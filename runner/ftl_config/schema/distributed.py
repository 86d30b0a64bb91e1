"""DeepSpeed, FSDP, DDP, Ray, model parallelism."""

from typing import Any, Literal

from ftl_config.schema.types import Count, NonNegative, NonNegativeInt, Section, Texts

StateDictType = Literal["FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"]


class FsdpConfig(Section):
    """How FSDP shards the model."""

    activation_checkpointing: bool | None = None
    """Checkpoint activations layer by layer; in place of gradient_checkpointing."""
    offload_params: bool | None = None
    """Keep shards in CPU memory."""
    cpu_offload_pin_memory: bool | None = None
    """Page-lock that memory."""
    sync_module_states: bool | None = None
    """Send rank 0's weights to the others at the start."""
    cpu_ram_efficient_loading: bool | None = None
    """Load weights on rank 0 alone, then send them."""
    use_orig_params: bool | None = None
    """Keep parameters as they are named in the model; FSDP2 always does."""
    state_dict_type: StateDictType | None = None
    """How checkpoints are saved: in one piece, or a shard a rank."""
    final_state_dict_type: StateDictType | None = None
    """How the model is saved at the end: always in one piece, whatever is said here."""
    auto_wrap_policy: Literal["TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP"] | None = None
    """What is sharded as one unit."""
    transformer_layer_cls_to_wrap: str | None = None
    """Class(es) of the layers that are sharded as one unit, separated by commas; the model's own when left out."""
    min_num_params: Count | None = None
    """Smallest unit under SIZE_BASED_WRAP, in parameters."""
    reshard_after_forward: bool | None = None
    """Give up gathered weights after the forward pass (as ZeRO-3), or keep them (as ZeRO-2)."""
    mixed_precision_policy: Literal["bf16", "fp16", "fp32"] | None = None
    """Type that gathered weights and gradients have; that of bf16 or fp16 when left out."""


class DistributedSection(Section):
    """DeepSpeed, FSDP, DDP, Ray and model parallelism."""

    deepspeed: str | dict[str, Any] | None = None
    """DeepSpeed settings: a path, the name of a file that ships with us (zero2.json), or the settings themselves."""
    deepcompile: bool = False
    """Compile with DeepSpeed's compiler."""
    fsdp: Texts | None = None
    """FSDP's old list of words; fsdp_version and fsdp_config take its place."""
    fsdp_version: Literal[1, 2] | None = None
    """2 turns FSDP on. The first FSDP is gone; a config that asks for it runs on the second."""
    fsdp_config: FsdpConfig | None = None
    """How FSDP shards the model."""
    fp32_norms: bool = False
    """Keep norm layers in float32 under FSDP2."""
    fp32_norm_classes: Texts | None = None
    """Classes that fp32_norms means."""
    dp_shard_size: Count | None = None
    """Devices that share one copy of the weights."""
    dp_replicate_size: Count | None = None
    """Copies of the weights."""
    context_parallel_size: Count | None = None
    """Devices that share one sequence."""
    ring_attn_func: str | None = None
    """Ring attention of context parallelism."""
    heads_k_stride: Count | None = None
    """Stride over key heads in ring attention."""
    tensor_parallel_size: Count | None = None
    """Devices that share one layer."""
    expert_parallel_size: Count | None = None
    """Devices that share the experts of a layer."""
    expert_parallel_backend: str | None = None
    """Library that moves tokens to experts."""
    expert_parallel_num_nvl_bytes: NonNegativeInt | None = None
    """Its buffer for NVLink, in bytes."""
    expert_parallel_num_rdma_bytes: NonNegativeInt | None = None
    """Its buffer for RDMA, in bytes."""
    expert_parallel_token_capacity: Count | None = None
    """Most tokens that one expert takes."""
    expert_parallel_fallback_on_unsupported: bool | None = None
    """Go on without it where it cannot run."""
    ddp: bool | None = None
    """Axolotl's internal mark; several processes always mean DDP unless DeepSpeed or FSDP is set."""
    ddp_timeout: Count | None = None
    """Seconds that a collective may take; 1800 when left out."""
    ddp_bucket_cap_mb: Count | None = None
    """Size of DDP's gradient buckets in MiB."""
    ddp_broadcast_buffers: bool | None = None
    """Send buffers from rank 0 before each step."""
    ddp_find_unused_parameters: bool | None = None
    """Look for parameters that a step did not use."""
    use_ray: bool = False
    """Start workers with Ray Train; `ftl launch` always does."""
    ray_num_workers: Count = 1
    """Number of training workers."""
    ray_run_name: str | None = None
    """Name of the Ray Train run; the name of the run when left out."""
    resources_per_worker: dict[str, NonNegative] | None = None
    """What one worker needs, as Ray counts it; {GPU: 1} where there are GPUs."""
    world_size: Count | None = None
    """Axolotl's internal value; the launcher sets it."""
    local_rank: int | None = None
    """Axolotl's internal value; the launcher sets it."""
    device: str | None = None
    """Axolotl's internal value; the runner picks the device."""

    @property
    def fsdp_key(self) -> str | None:
        """The key that asks for FSDP; ``fsdp_version: 2`` alone does."""
        if self.fsdp_config is not None:
            return "fsdp_config"
        if self.fsdp:
            return "fsdp"
        return "fsdp_version" if self.fsdp_version else None
