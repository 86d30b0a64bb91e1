"""How it is trained: batch, steps, optimizer, schedule, memory savers."""

from typing import Annotated, Literal

from pydantic import Field

from ftl_config.schema.types import Count, Fraction, NonNegative, NonNegativeInt, Options, Positive, Section, Texts


class LearningRateGroup(Section):
    """Parameters with a learning rate of their own."""

    name: str
    """Name of the group, for logs."""
    modules: Texts
    """Parts of parameter names that belong to the group."""
    lr: NonNegative
    """Their learning rate."""


class SelectiveCheckpointing(Section):
    """Which results gradient checkpointing keeps."""

    save: Texts = ("attention",)
    """Operations whose result is kept."""
    save_sliding_window: bool = False
    """Keep sliding-window attention too."""
    recompute_layer_types: Texts | None = None
    """Layer types whose attention is computed again."""
    offload: bool = False
    """Keep the results in CPU memory."""


class TrainingSection(Section):
    """Batch size, length of training, optimizer and schedule."""

    micro_batch_size: Count = 1
    """Samples (rows, when packed) that one device computes at a time."""
    gradient_accumulation_steps: Count = 1
    """Micro batches that make one optimizer step on one device."""
    batch_size: Count | None = None
    """Samples of one optimizer step on one device; in place of gradient_accumulation_steps."""
    eval_batch_size: Count | None = None
    """micro_batch_size for evaluation."""
    auto_find_batch_size: bool = False
    """Halve the micro batch until it fits."""
    num_epochs: Positive = 1.0
    """Passes over the data; fractions allowed."""
    max_steps: Count | None = None
    """Stop after this many optimizer steps, whatever num_epochs says."""
    seed: int = 42
    """Seed of everything random."""
    learning_rate: Positive = 5e-5
    """Peak learning rate. Every config has to give it; the default serves incomplete ones."""
    lr_scheduler: str = "cosine"
    """Shape of the learning rate: cosine, linear, constant, constant_with_warmup, polynomial, rex, one_cycle, ..."""
    lr_scheduler_kwargs: Options | None = None
    """Arguments of the scheduler."""
    warmup_steps: NonNegativeInt | None = None
    """Steps over which the learning rate rises. 3 % of all steps, 100 at most, when neither warm-up key is set."""
    warmup_ratio: Fraction | None = None
    """The same as a share of all steps."""
    lr_quadratic_warmup: bool = False
    """The warm-up before a cosine rises quadratically."""
    cosine_min_lr_ratio: Fraction | None = None
    """The cosine (or rex) ends at this share of the peak, not at 0; with restarts, each falls to it."""
    cosine_constant_lr_ratio: Fraction | None = None
    """The cosine reaches its end at this share of the steps, and stays."""
    lr_div_factor: Positive | None = None
    """one_cycle starts at the peak divided by this."""
    jagged_restart_steps: Count | None = None
    """Start the schedule anew every so many steps."""
    jagged_restart_warmup_steps: NonNegativeInt | None = None
    """Warm-up steps after such a restart; 10 when left out."""
    jagged_restart_anneal_steps: NonNegativeInt | None = None
    """Steps over which the rate falls before such a restart; 1 when left out."""
    embedding_lr: NonNegative | None = None
    """Learning rate of embeddings and output head trained in full; they get no weight decay then."""
    embedding_lr_scale: NonNegative | None = None
    """The same as a multiple of learning_rate."""
    lr_groups: Annotated[tuple[LearningRateGroup, ...], Field(strict=False)] | None = None
    """Groups of parameters with learning rates of their own."""
    optimizer: str = "adamw_torch_fused"
    """Optimizer: transformers' names (adamw_torch_fused, adamw_8bit, paged_adamw_8bit, ...), muon, adopt_adamw, ..."""
    optim_args: str | Options | None = None
    """Arguments of the optimizer: a mapping, or `name=value,name=value`."""
    optim_target_modules: str | Texts | None = None
    """Modules that GaLore and APOLLO work on."""
    weight_decay: NonNegative = 0.0
    """Weight decay."""
    adam_beta1: Fraction | None = None
    """Adam's first beta; 0.9 when left out."""
    adam_beta2: Fraction | None = None
    """Adam's second beta; 0.999 when left out."""
    adam_beta3: Fraction | None = None
    """CAME's third beta."""
    adam_epsilon: NonNegative | None = None
    """Adam's epsilon; 1e-8 when left out."""
    adam_epsilon2: NonNegative | None = None
    """CAME's second epsilon."""
    max_grad_norm: NonNegative | None = None
    """Gradients are scaled down to this norm; 1.0 when left out, 0 for no limit."""
    dion_lr: NonNegative | None = None
    """Learning rate of Dion."""
    dion_momentum: NonNegative | None = None
    """Momentum of Dion."""
    dion_rank_fraction: Fraction = 1.0
    """Rank of Dion's approximation as a share of the dimension."""
    dion_rank_multiple_of: Count = 1
    """Dion's rank is rounded up to a multiple of this."""
    qgalore_rank: Count = 256
    """Rank of Q-GaLore's projection."""
    qgalore_update_proj_gap: Count = 200
    """Most steps between two of Q-GaLore's projections."""
    qgalore_scale: NonNegative = 0.25
    """Factor on Q-GaLore's projected gradient."""
    qgalore_proj_type: str = "std"
    """Kind of Q-GaLore's projection."""
    qgalore_proj_quant: bool = True
    """Quantize Q-GaLore's projection."""
    qgalore_proj_bits: Count = 4
    """Bits of Q-GaLore's projection."""
    qgalore_proj_group_size: Count = 256
    """Group size of that quantization."""
    qgalore_cos_threshold: Fraction = 0.4
    """Similarity from which Q-GaLore keeps its projection."""
    qgalore_gamma_proj: Count = 2
    """Factor on the gap between Q-GaLore's projections once they settle."""
    qgalore_queue_size: Count = 5
    """Length of Q-GaLore's moving average."""
    neftune_noise_alpha: Positive | None = None
    """Noise on the input embeddings (NEFTune); the paper uses 5."""
    use_eaft: bool = False
    """Weight the loss with the entropy of the prediction (EAFT)."""
    eaft_alpha: NonNegative = 1.0
    """Exponent of that weight."""
    eaft_k: Count = 20
    """Logits that the entropy is worked out from."""
    unfrozen_parameters: Texts | None = None
    """Patterns of the parameters that a full fine-tune trains, matched from the start; `[from:to]` at the end: rows."""
    trainer_cls: str | None = None
    """Python path of a trainer class."""
    plugins: Texts | None = None
    """Axolotl plugins by Python path. Liger is built in: its keys work with and without the plugin."""
    gradient_checkpointing: bool | Literal["offload", "offload_disk"] = False
    """Compute activations again in the backward pass, to save memory."""
    gradient_checkpointing_kwargs: Options | None = None
    """Arguments of gradient checkpointing: use_reentrant."""
    selective_checkpointing: bool | SelectiveCheckpointing | None = None
    """Keep some results through gradient checkpointing."""
    activation_offloading: bool | Literal["legacy", "disk", "hidden_states"] = False
    """Keep activations in CPU memory."""
    layer_offloading: bool = False
    """Keep layers in CPU memory and fetch each when it is needed."""
    torch_compile: bool | Literal["auto"] | None = None
    """Compile the model with torch.compile; auto: on a GPU."""
    torch_compile_backend: str | None = None
    """Backend of torch.compile."""
    torch_compile_mode: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    """Mode of torch.compile."""
    torch_compile_options: dict[str, bool | int | float | str] | None = None
    """Flags of torch._inductor."""
    gc_collect_steps: int | None = None
    """Steps between Python garbage collections; -1: before evaluation and after an epoch."""
    torch_empty_cache_steps: Count | None = None
    """Steps after which the device's free memory is handed back."""
    stop_on_nan_loss: bool = True
    """End the run at the first loss that is not a number, with the batch saved as output_dir/nan-batch-step-N."""
    loss_watchdog_threshold: Positive | None = None
    """Loss above which training is taken to have failed."""
    loss_watchdog_patience: Count | None = None
    """Logged steps in a row above the threshold (or not a number) that end the run; 3 when left out."""
