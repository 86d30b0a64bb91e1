"""Batches, steps, saving and evaluating."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.keys import is_set
from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config

COMPLETENESS = False


def _evaluates(config: Config) -> bool:
    return bool(config.data.val_set_size or config.data.test_datasets)


def one_way_to_accumulate(config: Config) -> Iterator[Finding]:
    """The total batch size, or the number of micro batches in it."""
    training = config.training
    if training.batch_size is None:
        return
    if is_set(config, "gradient_accumulation_steps"):
        hint = (
            f"micro batches of {training.micro_batch_size} make {training.batch_size} in batch_size / micro_batch_size"
        )
        message = "cannot be combined with gradient_accumulation_steps"
        yield error(message, "batch_size", "gradient_accumulation_steps", hint=hint)
    elif training.batch_size % training.micro_batch_size:
        message = f"is not a multiple of micro_batch_size ({training.micro_batch_size})"
        yield error(message, "batch_size", "micro_batch_size")


def one_warm_up(config: Config) -> Iterator[Finding]:
    """Steps or a share of them."""
    if config.training.warmup_steps and config.training.warmup_ratio:
        yield error("cannot be combined with warmup_ratio", "warmup_steps", "warmup_ratio", hint="keep one of the two")


_SCHEDULE_KEYS = (
    ("cosine_min_lr_ratio", ("cosine", "rex")),
    ("cosine_constant_lr_ratio", ("cosine",)),
    ("lr_quadratic_warmup", ("cosine",)),
    ("lr_div_factor", ("one_cycle",)),
)
"""Keys that only some schedules have, and those schedules."""

_NOT_OF_STEPS = ("one_cycle", "reduce_lr_on_plateau", "greedy")
"""Schedules that cannot be started anew."""


def schedule_keys_need_their_schedule(config: Config) -> Iterator[Finding]:
    """What only one shape of the learning rate has."""
    training = config.training
    for key, schedules in _SCHEDULE_KEYS:
        if key == "cosine_min_lr_ratio" and training.jagged_restart_steps:
            continue  # the floor of the restarts
        if getattr(training, key) not in (None, False) and training.lr_scheduler not in schedules:
            yield warning(f"has no effect with lr_scheduler: {training.lr_scheduler}", key, "lr_scheduler")
    for key in ("warmup_steps", "warmup_ratio"):
        if getattr(training, key) and training.lr_scheduler == "constant":
            hint = "constant_with_warmup has one"
            yield warning("has no effect with lr_scheduler: constant", key, "lr_scheduler", hint=hint)


def schedule_arguments_fit(config: Config) -> Iterator[Finding]:
    """Arguments that a schedule needs, or has no place for."""
    training = config.training
    name, arguments = training.lr_scheduler, training.lr_scheduler_kwargs or {}
    own_cosine = name == "cosine" and (training.lr_quadratic_warmup or training.cosine_constant_lr_ratio is not None)
    if arguments and (name == "rex" or own_cosine):
        yield error(f"{name} takes no arguments here", "lr_scheduler_kwargs", "lr_scheduler")
    if name == "warmup_stable_decay" and "num_decay_steps" not in arguments:
        hint = "lr_scheduler_kwargs: {num_decay_steps: 100}"
        yield error(f"{name} needs num_decay_steps", "lr_scheduler", "lr_scheduler_kwargs", hint=hint)
    if name in ("cosine_with_min_lr", "cosine_warmup_with_min_lr") and not {"min_lr", "min_lr_rate"} & set(arguments):
        hint = "lr_scheduler: cosine with cosine_min_lr_ratio: 0.1 does the same"
        yield error(f"{name} needs min_lr or min_lr_rate", "lr_scheduler", "lr_scheduler_kwargs", hint=hint)
    if name == "reduce_lr_on_plateau" and not _evaluates(config):
        yield error(f"{name} needs evaluation data: set val_set_size or test_datasets", "lr_scheduler", "val_set_size")


def restarts_fit(config: Config) -> Iterator[Finding]:
    """The teeth of a schedule with restarts."""
    training = config.training
    keys = ("jagged_restart_warmup_steps", "jagged_restart_anneal_steps")
    if training.jagged_restart_steps is None:
        for key in keys:
            if getattr(training, key) is not None:
                yield error("needs jagged_restart_steps", key, "jagged_restart_steps")
        return
    if training.lr_scheduler in _NOT_OF_STEPS:
        yield error(
            f"cannot be combined with lr_scheduler: {training.lr_scheduler}", "jagged_restart_steps", "lr_scheduler"
        )
    warmup, anneal = training.jagged_restart_warmup_steps or 10, training.jagged_restart_anneal_steps or 1
    if warmup + anneal > training.jagged_restart_steps:
        message = f"is less than the steps of warm-up ({warmup}) and annealing ({anneal}) together"
        yield error(message, "jagged_restart_steps", keys[0], keys[1])


def watchdog_needs_threshold(config: Config) -> Iterator[Finding]:
    """Patience with nothing to be patient about."""
    if config.training.loss_watchdog_patience and config.training.loss_watchdog_threshold is None:
        yield warning("has no effect without loss_watchdog_threshold", "loss_watchdog_patience")


def uploading_needs_repository(config: Config) -> Iterator[Finding]:
    """The other hub keys say how, not where."""
    if config.checkpointing.hub_model_id is None:
        for key in ("hub_strategy", "hub_revision"):
            if getattr(config.checkpointing, key) is not None:
                yield warning("has no effect without hub_model_id", key)


def one_way_to_save(config: Config) -> Iterator[Finding]:
    """Every so many steps, or so many times an epoch, or neither."""
    checkpointing = config.checkpointing
    if checkpointing.save_steps and checkpointing.saves_per_epoch:
        yield error("cannot be combined with saves_per_epoch", "save_steps", "saves_per_epoch")
    strategy = checkpointing.save_strategy
    if strategy not in (None, "steps") and checkpointing.save_steps:
        hint = "leave one of the two out"
        yield error(f"cannot be combined with save_strategy: {strategy}", "save_steps", "save_strategy", hint=hint)
    if strategy == "steps" and not (checkpointing.save_steps or checkpointing.saves_per_epoch):
        yield error("steps needs save_steps", "save_strategy", "save_steps")


def best_needs_metric(config: Config) -> Iterator[Finding]:
    """To save the best, one has to know what best is."""
    checkpointing = config.checkpointing
    if checkpointing.save_strategy == "best" and not checkpointing.metric_for_best_model:
        hint = "metric_for_best_model: eval_loss"
        yield error("best needs metric_for_best_model", "save_strategy", "metric_for_best_model", hint=hint)
    for key in ("load_best_model_at_end", "early_stopping_patience"):
        if getattr(checkpointing, key) and not _evaluates(config):
            yield error("needs evaluation data: set val_set_size or test_datasets", key, "val_set_size")


def one_way_to_evaluate(config: Config) -> Iterator[Finding]:
    """Every so many steps, or so many times an epoch, or neither."""
    checkpointing = config.checkpointing
    strategy = checkpointing.eval_strategy
    if checkpointing.eval_steps and checkpointing.evals_per_epoch:
        yield error("cannot be combined with evals_per_epoch", "eval_steps", "evals_per_epoch")
    for key in ("eval_steps", "evals_per_epoch"):
        if strategy not in (None, "steps") and getattr(checkpointing, key):
            hint = "leave one of the two out"
            yield error(f"cannot be combined with eval_strategy: {strategy}", key, "eval_strategy", hint=hint)


def evaluation_needs_data(config: Config) -> Iterator[Finding]:
    """Without evaluation data there is nothing to evaluate."""
    checkpointing = config.checkpointing
    if _evaluates(config) or checkpointing.eval_strategy == "no":
        return
    for key in ("eval_steps", "eval_strategy"):
        if getattr(checkpointing, key):
            hint = "set val_set_size or test_datasets"
            yield error("needs evaluation data", key, "val_set_size", hint=hint)
    if checkpointing.evals_per_epoch:
        yield warning("has no effect: there is no evaluation data", "evals_per_epoch", "val_set_size")


def early_stopping_needs_steps(config: Config) -> Iterator[Finding]:
    """The best checkpoint exists only if one was saved whenever it was evaluated."""
    checkpointing = config.checkpointing
    if not checkpointing.early_stopping_patience or not _evaluates(config):
        return
    save, evaluate = checkpointing.save_steps, checkpointing.eval_steps
    if not save or not evaluate:
        missing = "save_steps" if not save else "eval_steps"
        yield error("needs save_steps and eval_steps", "early_stopping_patience", missing)
    elif abs(round(save / evaluate) - save / evaluate) > 1e-9:
        hint = "otherwise the best model may not have been saved"
        yield error(f"has to be a multiple of eval_steps ({evaluate})", "save_steps", "eval_steps", hint=hint)


def uploading_needs_saving(config: Config) -> Iterator[Finding]:
    """What is never saved cannot be uploaded on the way."""
    if config.checkpointing.hub_model_id and config.checkpointing.save_strategy == "no":
        yield warning("nothing is uploaded before the end with save_strategy: no", "hub_model_id", "save_strategy")


def weights_alone_cannot_resume(config: Config) -> Iterator[Finding]:
    """A checkpoint without optimizer state is no place to go on from."""
    checkpointing = config.checkpointing
    if checkpointing.save_only_model and checkpointing.auto_resume_from_checkpoints:
        message = "cannot be combined with save_only_model: such checkpoints cannot be resumed from"
        yield error(message, "auto_resume_from_checkpoints", "save_only_model")


def generated_scores_need_plain_batches(config: Config) -> Iterator[Finding]:
    """Answers cannot be generated from packed rows."""
    checkpointing = config.checkpointing
    packed = config.data.eval_sample_packing
    if checkpointing.do_causal_lm_eval and (packed or (packed is None and config.data.sample_packing)):
        yield error("needs eval_sample_packing: false", "do_causal_lm_eval", "eval_sample_packing")
    if checkpointing.do_bench_eval and not (checkpointing.evals_per_epoch or checkpointing.eval_steps):
        yield error("needs evals_per_epoch or eval_steps", "do_bench_eval", "eval_steps")
    known = {"sacrebleu", "comet", "ter", "chrf", "perplexity"}
    for index, metric in enumerate(checkpointing.eval_causal_lm_metrics or ()):
        if metric not in known:
            yield error(
                f"unknown score {metric!r}; known are {', '.join(sorted(known))}", ("eval_causal_lm_metrics", index)
            )


RULES: list[Rule] = [
    one_way_to_accumulate,
    one_warm_up,
    schedule_keys_need_their_schedule,
    schedule_arguments_fit,
    restarts_fit,
    watchdog_needs_threshold,
    uploading_needs_repository,
    one_way_to_save,
    best_needs_metric,
    one_way_to_evaluate,
    evaluation_needs_data,
    early_stopping_needs_steps,
    uploading_needs_saving,
    weights_alone_cannot_resume,
    generated_scores_need_plain_batches,
]
