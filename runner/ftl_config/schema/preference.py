"""Preference tuning, reward models and reinforcement learning."""

from typing import Annotated, Literal

from pydantic import Field

from ftl_config.schema.types import (
    Count,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Numbers,
    Options,
    Positive,
    Section,
    Texts,
)

RlMethod = Literal["dpo", "ipo", "orpo", "kto", "simpo", "grpo", "gdpo", "ebft"]


class TrlConfig(Section):
    """GRPO and what its trainer shares with other online methods."""

    beta: NonNegative | None = None
    """Weight of the distance to the reference model."""
    max_completion_length: Count | None = None
    """Longest answer in tokens."""
    use_vllm: bool = False
    """Generate with vLLM."""
    vllm_mode: Literal["server", "colocate"] | None = None
    """A vLLM server, or vLLM in the training process."""
    vllm_server_host: str | None = "0.0.0.0"  # noqa: S104 - the default that Axolotl documents
    """Host of the vLLM server."""
    vllm_server_port: Count | None = 8000
    """Port of the vLLM server."""
    vllm_server_timeout: Count | None = None
    """Seconds to wait for the vLLM server."""
    vllm_guided_decoding_regex: str | None = None
    """Regular expression that answers must match."""
    vllm_enable_sleep_mode: bool | None = None
    """Free vLLM's memory while it is idle."""
    vllm_sync_interval: Count | None = None
    """Optimizer steps between two transfers of weights."""
    vllm_lora_sync: bool = False
    """Transfer the adapter alone, as files."""
    vllm_importance_sampling_correction: bool | None = None
    """Correct for the difference between vLLM's and the trainer's probabilities."""
    vllm_importance_sampling_mode: (
        Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None
    ) = None
    """How that correction is bounded."""
    vllm_importance_sampling_cap: Positive | None = None
    """Bound of that correction."""
    reward_funcs: Texts | None = None
    """Reward functions by Python path."""
    reward_weights: Numbers | None = None
    """Their weights."""
    reward_num_workers: Count = 1
    """Processes that compute rewards."""
    generation_batch_size: Count | None = None
    """Answers generated at a time."""
    num_generations: Count | None = None
    """Answers to each prompt."""
    log_completions: bool | None = False
    """Log answers."""
    num_completions_to_print: Count | None = None
    """How many of them."""
    importance_sampling_level: Literal["sequence", "token"] | None = None
    """Probability ratios by token (GRPO) or by answer (GSPO)."""
    sync_ref_model: bool | None = False
    """Move the reference model towards the trained one."""
    ref_model_mixup_alpha: Fraction | None = 0.9
    """How far it moves."""
    ref_model_sync_steps: Count | None = 64
    """Steps between two moves."""
    scale_rewards: bool = True
    """Divide rewards by their standard deviation."""
    temperature: NonNegative | None = None
    """Sampling temperature."""
    top_p: Fraction | None = None
    """Sample from the likeliest tokens that make up this share."""
    top_k: int | None = None
    """Sample from so many of the likeliest tokens."""
    min_p: Fraction | None = None
    """Smallest probability of a sampled token."""
    repetition_penalty: Positive | None = None
    """Penalty on tokens that stand already."""
    generation_kwargs: Options | None = None
    """More sampling arguments."""
    chat_template_kwargs: Options | None = None
    """Variables for the chat template."""
    num_iterations: Count | None = None
    """Updates for each batch of answers."""
    epsilon: NonNegative | None = None
    """Clipping range."""
    epsilon_high: NonNegative | None = None
    """Upper clipping range."""
    use_liger_loss: bool | None = None
    """Liger's GRPO loss."""
    loss_type: str | None = None
    """grpo, bnpo, dr_grpo, ..."""
    mask_truncated_completions: bool = False
    """Leave answers that were cut off out of the loss."""
    rollout_func: str | None = None
    """Function that makes answers, by Python path."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] | None = None
    """How several rewards become one (GDPO: normalize_then_sum)."""
    use_data_producer: bool = False
    """Generate through a data producer."""
    async_prefetch: bool = False
    """Generate while training."""
    prefetch_depth: Count | None = None
    """Batches generated ahead."""
    streaming_partial_batch: bool | None = None
    """Score answers as they come."""
    streaming_min_groups: Count | None = None
    """Fewest prompts scored at a time."""
    off_policy_mask_threshold: NonNegative | None = None
    """Distance from which old answers are left out."""
    use_bias_correction_kl: bool | None = None
    """Correct the distance for old answers."""
    replay_buffer_size: NonNegativeInt = 0
    """Good groups of answers kept for later."""
    replay_recompute_logps: bool = True
    """Work out their probabilities anew."""
    reroll_start_fraction: Fraction = 1.0
    """Share of training from which prompts without signal are tried again."""
    reroll_max_groups: Count = 1
    """Most such prompts in a batch."""
    skip_zero_advantage_batches: bool = True
    """Skip batches without signal."""


class VllmConfig(Section):
    """The vLLM server that generates answers."""

    device: str | None = "auto"
    """Its device."""
    tensor_parallel_size: Count | None = None
    """Devices that share one copy of the model."""
    data_parallel_size: Count | None = None
    """Copies of the model."""
    gpu_memory_utilization: Fraction | None = 0.9
    """Share of GPU memory it takes."""
    dtype: str | None = "auto"
    """Its number format."""
    max_model_len: Count | None = None
    """Longest prompt with answer."""
    enable_prefix_caching: bool | None = None
    """Keep the state of common beginnings."""
    host: str | None = "0.0.0.0"  # noqa: S104 - the default that Axolotl documents
    """Address it listens on."""
    port: Count | None = 8000
    """Port it listens on."""
    enable_reasoning: bool | None = None
    """Take reasoning apart."""
    reasoning_parser: str | None = None
    """How reasoning is recognised."""
    enforce_eager: bool | None = None
    """Without CUDA graphs."""
    serve_module: str | None = None
    """Python module that serves."""
    worker_extension_cls: str | None = None
    """Class that takes new weights."""


class EbftConfig(Section):
    """Energy-based fine-tuning."""

    feature_layers: Numbers = (0.25, 0.5, 0.75)
    """Depths that features are taken from."""
    embed_method: Literal["last_token", "mean_pooling", "completion_mean", "concat"] = "last_token"
    """How features become one vector."""
    use_whitening: bool = False
    """Whiten features."""
    alignment_coef: float = 1.0
    """Weight of likeness to the true answer."""
    diversity_coef: float = 1.0
    """Weight of the penalty on likeness to each other."""
    ce_coef: float = 0.0
    """Weight of cross entropy."""
    adaptive_max_tokens: bool = True
    """Longest answer after the true one's length."""
    gt_length_multiplier: Positive = 1.5
    """How much longer."""
    mode: Literal["structured", "strided"] = "structured"
    """Question and answer, or plain text."""
    stride: Count = 8
    """Tokens between two anchors."""
    context_length: Count = 8
    """Tokens before an anchor."""
    generate_max_len: Count = 8
    """Tokens generated at an anchor."""
    n_samples_per_prompt: Count = 4
    """Answers to each prompt."""
    temperature: NonNegative = 0.6
    """Sampling temperature."""
    top_p: Fraction = 1.0
    """Sample from the likeliest tokens that make up this share."""
    rl_coef: float = 1.0
    """Weight of the policy gradient."""
    advantage_estimator: Literal["rloo", "group_norm", "reinforce"] = "rloo"
    """How rewards become advantages."""
    min_completion_prefix: NonNegativeInt = 0
    """Tokens of the answer before the first anchor."""


class PreferenceSection(Section):
    """Preference tuning, reward models, reinforcement learning."""

    rl: RlMethod | None = None
    """dpo, ipo, orpo, kto, simpo, grpo, gdpo or ebft."""
    rl_beta: NonNegative | None = None
    """Weight of the distance to the reference model (0.1): a higher one keeps closer to it."""
    dpo_loss_type: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """DPO's losses, added up: sigmoid (the default), ipo, hinge, robust, sft, ..."""
    dpo_loss_weights: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] | None = None
    """A weight for each of dpo_loss_type (1)."""
    dpo_label_smoothing: Fraction | None = None
    """Share of labels taken to be wrong; read by the losses robust, exo_pair, aot and aot_unpaired."""
    dpo_use_weighting: bool | None = None
    """Weight pairs with how likely the model finds them (WPO)."""
    dpo_use_liger_kernel: bool | None = None
    """Liger's DPO loss."""
    dpo_padding_free: bool | None = None
    """Join a batch into one row without padding."""
    precompute_ref_log_probs: bool | None = None
    """Ask the reference model before training, once, and free it (DPO, IPO, KTO)."""
    orpo_alpha: NonNegative | None = None
    """Weight of ORPO's odds ratio beside its cross-entropy (0.1); rl_beta goes before it."""
    simpo_gamma: NonNegative | None = None
    """SimPO's target margin between the rewards (0.5)."""
    cpo_alpha: NonNegative | None = None
    """Weight of the chosen answer's cross-entropy in SimPO (1); 0 is SimPO as published."""
    kto_desirable_weight: NonNegative | None = None
    """Weight of good answers in KTO (1)."""
    kto_undesirable_weight: NonNegative | None = None
    """Weight of bad answers in KTO (1)."""
    reward_model: bool = False
    """Train a reward model."""
    process_reward_model: bool = False
    """Train a reward model of single steps."""
    center_rewards_coefficient: NonNegative | None = None
    """Pull rewards towards mean 0."""
    trl: TrlConfig | None = None
    """GRPO and its kin."""
    vllm: VllmConfig | None = None
    """vLLM server."""
    ebft: EbftConfig | None = None
    """Energy-based fine-tuning."""
    beta: NonNegative | None = None
    """Old spelling of trl.beta; goes before rl_beta."""

    def beta_or(self, default: float) -> float:
        """``trl.beta`` (or its old spelling ``beta``) goes before ``rl_beta``, as in Axolotl."""
        given = (self.trl.beta if self.trl else None, self.beta, self.rl_beta)
        return next((value for value in given if value is not None), default)
