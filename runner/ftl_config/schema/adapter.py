"""Adapters and quantized loading."""

from typing import Annotated, Literal

from pydantic import Field

from ftl_config.schema.types import Count, Fraction, Integers, NonNegative, Options, Pair, Section, Texts


class LoftqOptions(Section):
    """How an adapter starts by LoftQ."""

    loftq_bits: Literal[4, 8] = 4
    """Bits that the base is quantized to, or rounded as if it were."""


class PeftOptions(Section):
    """PEFT options without a key of their own."""

    loftq_config: LoftqOptions | None = None
    """Start the adapter with what quantization took from the base (LoftQ)."""


class AdapterSection(Section):
    """Adapters (LoRA and kin) and quantized loading through bitsandbytes."""

    adapter: str | None = None
    """lora, qlora, or nothing for a full fine-tune."""
    lora_model_dir: str | None = None
    """Adapter to go on training, to merge, or to run."""
    lora_r: Count | None = None
    """Rank of the adapter; 8 when left out."""
    lora_alpha: Count | None = None
    """Scale of the adapter: its output is multiplied by alpha / rank; 16 when left out."""
    lora_dropout: NonNegative = 0.0
    """Dropout on the adapter's input."""
    lora_target_modules: str | Texts | None = None
    """Modules that get an adapter: names, or one regular expression over full names."""
    lora_target_linear: bool = False
    """Give every linear layer but the output head an adapter; lora_target_modules comes on top."""
    lora_target_parameters: str | Texts | None = None
    """Parameters (not modules) that get an adapter, as for experts stored in one tensor."""
    lora_modules_to_save: Texts | None = None
    """Modules trained and saved in full beside the adapter, such as embed_tokens and lm_head."""
    lora_rank_pattern: dict[str, Count] | None = None
    """Other ranks for modules whose name matches a regular expression."""
    lora_alpha_pattern: dict[str, Count] | None = None
    """Other alphas for modules whose name matches a regular expression."""
    lora_fan_in_fan_out: bool | None = None
    """The layer stores its weight as (in, out), as GPT-2's Conv1D does."""
    lora_exclude_modules: str | Texts | None = None
    """Modules that get no adapter though they match the target."""
    lora_on_cpu: bool | None = None
    """Load the adapter on the CPU when merging; the merge command always works on the CPU."""
    peft_layers_to_transform: Integers | None = None
    """Numbers of the layers that get an adapter; all by default."""
    peft_layers_pattern: Texts | None = None
    """Name of the list of layers that peft_layers_to_transform counts in."""
    peft_use_dora: bool = False
    """Weight-decomposed LoRA (DoRA)."""
    peft_use_rslora: bool = False
    """Scale by alpha / sqrt(rank) (rank-stabilised LoRA)."""
    peft_init_lora_weights: bool | str | None = None
    """How the adapter starts: true (zero effect), gaussian, orthogonal, pissa, pissa_niter_16, olora, loftq."""
    peft_layer_replication: Annotated[tuple[Pair, ...], Field(strict=False)] | None = None
    """Ranges of layers to stack again, sharing weights."""
    peft_trainable_token_indices: Integers | dict[str, Integers] | None = None
    """Ids of tokens whose embedding is trained beside the adapter."""
    peft_ensure_weight_tying: bool | None = None
    """Keep tied weights tied when an adapter or modules_to_save touches one of them."""
    peft_autocast_adapter_dtype: bool | None = None
    """Keep adapter weights in float32; PEFT's default."""
    peft: PeftOptions | None = None
    """PEFT options without a key of their own: loftq_config."""
    load_in_8bit: bool = False
    """Quantize the frozen base to 8 bits with bitsandbytes."""
    load_in_4bit: bool = False
    """Quantize the frozen base to 4 bits with bitsandbytes."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] | None = None
    """4-bit data type; nf4 when left out."""
    bnb_4bit_use_double_quant: bool | None = None
    """Quantize the quantization constants too; true when left out."""
    bnb_4bit_compute_dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Type that 4-bit weights are computed in; the training precision when left out."""
    bnb_config_kwargs: Options | None = None
    """More arguments for BitsAndBytesConfig; they win over the keys above."""
    gptq: bool = False
    """The base model is quantized with GPTQ; needs gptqmodel and optimum. Its own config.json says how."""
    qlora_sharded_model_loading: bool | None = None
    """Load a 4-bit base shard by shard under FSDP."""
    loraplus_lr_ratio: NonNegative | None = None
    """Learning rate of B over that of A (LoRA+)."""
    loraplus_lr_embedding: NonNegative = 1e-6
    """Learning rate of LoRA embedding layers under LoRA+."""
    merge_lora: bool | None = None
    """Set by the merge command; has no place in a training config."""
    merge_method: Literal["memory_efficient", "legacy"] = "memory_efficient"
    """How the merge command works: shard by shard, or with the whole model in memory."""
    relora: bool = False
    """Merge the adapter and start a new one every jagged_restart_steps (ReLoRA)."""
    relora_prune_ratio: Fraction | None = None
    """Share of optimizer state zeroed at a ReLoRA restart; 0.9 when left out, 0.999 with reset."""
    relora_prune_method: Literal["magnitude", "random", "reset"] = "magnitude"
    """Which optimizer state a ReLoRA restart zeroes: the smallest values, or (random, reset) any."""
    relora_cpu_offload: bool | None = None
    """Merge on the CPU at a ReLoRA restart."""
    lisa_n_layers: Count | None = None
    """Layers that a full fine-tune trains at a time, beside embeddings, norm and head (LISA)."""
    lisa_step_interval: Count | None = None
    """Steps after which LISA picks other layers."""
    lisa_layers_attribute: str = "model.layers"
    """Where LISA finds the layers."""

    @property
    def loftq_bits(self) -> int | None:
        """4 or 8 where the adapter starts by LoftQ."""
        options = self.peft.loftq_config if self.peft is not None else None
        return options.loftq_bits if options is not None else None
