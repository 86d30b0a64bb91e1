"""Saving, evaluating, resuming, uploading."""

from typing import Literal

from ftl_config.schema.types import Count, NonNegativeInt, OpenFraction, Section, Texts

Strategy = Literal["no", "steps", "epoch"]


class DynamicCheckpoint(Section):
    """Save a checkpoint when a file appears."""

    enabled: bool = False
    """Whether to look for the file."""
    check_interval: Count = 10
    """Steps between two looks."""
    trigger_file_path: str = ""
    """Name of the file in output_dir."""


class CheckpointingSection(Section):
    """Saving, evaluating, resuming and uploading."""

    output_dir: str = "./model-out"
    """Directory of the finished model or adapter, and of checkpoints when `checkpoint` is not set."""
    checkpoint: str | None = None
    """Where checkpoints go: s3://bucket/prefix, another address that fsspec knows, or a directory. Ours."""
    resume_from_checkpoint: str | bool | None = None
    """Checkpoint to go on from: a path or address, or true for the newest."""
    auto_resume_from_checkpoints: bool = False
    """Go on from the newest checkpoint when there is one."""
    save_strategy: Literal["no", "steps", "epoch", "best"] | None = None
    """When to save; worked out from the keys below when left out, else each epoch."""
    save_steps: Count | OpenFraction | None = None
    """Save every so many steps, or every such share of all steps."""
    saves_per_epoch: NonNegativeInt | None = None
    """Save so many times an epoch."""
    save_total_limit: Count = 4
    """Checkpoints to keep."""
    save_only_model: bool = False
    """Save weights alone: such a checkpoint cannot be resumed from."""
    save_first_step: bool = False
    """Save after the first step too."""
    save_safetensors: bool = True
    """Save as safetensors; transformers 5 always does."""
    dynamic_checkpoint: DynamicCheckpoint | None = None
    """Save when a file appears."""
    eval_strategy: Strategy | None = None
    """When to evaluate; worked out from the keys below when left out."""
    eval_steps: Count | OpenFraction | None = None
    """Evaluate every so many steps, or every such share of all steps."""
    evals_per_epoch: NonNegativeInt | None = None
    """Evaluate so many times an epoch."""
    early_stopping_patience: Count | None = None
    """Stop after so many evaluations without a better result."""
    load_best_model_at_end: bool = False
    """End with the best checkpoint, not with the last."""
    metric_for_best_model: str | None = None
    """What best means; eval_loss when left out."""
    greater_is_better: bool | None = None
    """Whether more of that metric is better."""
    do_causal_lm_eval: bool = False
    """Generate answers in evaluation and score them."""
    eval_causal_lm_metrics: Texts | None = None
    """Scores: sacrebleu, comet, ter, chrf, perplexity."""
    do_bench_eval: bool = False
    """Run multiple-choice questions in evaluation."""
    bench_dataset: str | None = None
    """Dataset of those questions."""
    bench_split: str | None = None
    """Its split."""
    hub_model_id: str | None = None
    """Hub repository to upload to, as a private one where it does not exist yet. Needs HF_TOKEN."""
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] | None = None
    """When to upload: at the end, with every save (the default), with resumable checkpoints (the last, or all)."""
    hub_revision: str | None = None
    """Branch to upload to."""
