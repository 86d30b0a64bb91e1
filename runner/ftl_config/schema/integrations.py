"""Keys of Axolotl's plugins."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ftl_config.schema.types import Count, Fraction, NonNegative, Options, Section, Texts


class IntegrationsSection(Section):
    """Keys that belong to Axolotl's plugins."""

    kd_trainer: bool | float | None = None
    """Distil from a teacher."""
    kd_ce_alpha: NonNegative | None = None
    """Weight of cross entropy in distillation."""
    kd_alpha: NonNegative | None = None
    """Weight of the teacher."""
    kd_temperature: NonNegative | None = None
    """Temperature of distillation."""
    kd_temperature_min: NonNegative | None = None
    """Temperature that it ends at."""
    kd_beta: Fraction = 0.0
    """Share of the reverse divergence."""
    kd_normalize_topk: bool | None = None
    """Normalize the student's logits."""
    kd_online_server_base_url: str | None = None
    """Address of the teacher."""
    kd_online_topk: Count | None = None
    """Logits asked of the teacher."""
    kd_online_server: Literal["vllm", "sglang"] = "vllm"
    """What serves the teacher."""
    kd_online_timeout: Count = 120
    """Seconds to wait for the teacher."""
    diffusion: Options | None = None
    """Train a diffusion language model."""
    dense_mixer: bool | None = None
    """DenseMixer routing gradients."""
    grokfast_alpha: NonNegative = 0.98
    """Grokfast's averaging."""
    grokfast_lamb: NonNegative = 2.0
    """Grokfast's amplification."""
    hatchery: Options | None = None
    """Train on a remote service."""
    llmcompressor: Options | None = None
    """Sparse fine-tuning through LLM Compressor."""
    lm_eval_tasks: Texts | None = None
    """Tasks of the evaluation harness."""
    lm_eval_batch_size: Count = 8
    """Its batch size."""
    lm_eval_post_train: bool = True
    """Run it after training."""
    lm_eval_model: str | None = None
    """Model to evaluate."""
    mora: Options | None = None
    """MoRA adapters."""
    nemo_gym_enabled: bool | None = None
    """Rewards from NeMo Gym."""
    nemo_gym_dir: str | None = None
    """Checkout of NeMo Gym."""
    nemo_gym_auto_clone: bool | None = None
    """Make that checkout."""
    nemo_gym_config_paths: Texts | None = None
    """NeMo Gym's configs."""
    nemo_gym_head_port: Count = 11000
    """Port of NeMo Gym."""
    nemo_gym_server_timeout: Count = 360
    """Seconds to wait for its servers."""
    nemo_gym_verify_timeout: Count = 30
    """Seconds to wait for a verdict."""
    nemo_gym_run_timeout: Count = 300
    """Seconds to wait for a run."""
    nemo_gym_datasets: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] | None = None
    """NeMo Gym's datasets."""
    nemo_gym_auto_start: bool = True
    """Start its servers."""
    nemo_gym_model_name: str | None = None
    """Name that the model goes by there."""
    nemo_gym_multi_turn: bool | None = None
    """Answers of several turns."""
    nemo_gym_max_turns: Count | None = None
    """Most turns."""
    spectrum_top_fraction: Fraction = 0.5
    """Share of the layers of each kind that Spectrum trains: those with most signal in their weights."""
    spectrum_model_name: str | None = None
    """Model whose scan is used, where model_snr_results/ holds one; else base_model is measured."""
