"""GRPO and GDPO: the model answers prompts, reward functions judge, and better answers become likelier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_runner.context import Outcome, RunContext
from ftl_runner.methods.frame import Setup, load_model, run_trainer, set_up, trainer_parts
from ftl_runner.methods.preference import adapter_starts_at_zero

if TYPE_CHECKING:
    from ftl_config import Config
    from ftl_runner.trainer.grpo_trainer import GrpoTrainer


def run(context: RunContext) -> Outcome:
    """Prepare prompts, load the model, answer and train (from the newest checkpoint where there is one), save."""
    from ftl_runner.trainer.grpo_arguments import answers_an_epoch, grpo_options
    from ftl_runner.trainer.grpo_trainer import KeepRollouts

    config, ranks = context.config, context.ranks.world_size
    options = grpo_options(config, ranks)
    setup = set_up(context, "GRPOConfig", options, lambda prompts: answers_an_epoch(config, ranks, prompts))
    _check_rows(setup.prepared.train, setup.arguments)
    _set_template(config, setup)
    base, model = load_model(context, setup)
    _check_reference(config, base)
    trainer = _make_trainer(context, setup, model)
    return run_trainer(context, setup, trainer, [KeepRollouts(context, trainer)])


def _check_rows(rows: Any, arguments: Any) -> None:
    """What would be ignored, or end training at once, is an error."""
    if "tools" in rows.column_names:
        raise FtlError("rl: grpo: the rows bring tools, which TRL does not write into prompts row by row", None, 3)
    prompts = arguments.generation_batch_size // arguments.num_generations
    if len(rows) < prompts:
        message = f"rl: grpo: {prompts} prompts are answered at a time, and the data has {len(rows)}"
        raise FtlError(message, "lower gradient_accumulation_steps, or use more prompts", 3)


def _set_template(config: Config, setup: Setup) -> None:
    """Prompts of messages are written by the tokenizer: give it the template that the data was prepared with."""
    from ftl_runner.data.preference.tasks import task_template

    rows = setup.prepared.train
    if isinstance(rows[0]["prompt"], str):
        return
    arguments: Any = setup.arguments
    setup.tokenizer.chat_template, given = task_template(config, setup.tokenizer)
    arguments.chat_template_kwargs = {**given, **(arguments.chat_template_kwargs or {})}


def _check_reference(config: Config, base: Any) -> None:
    """Without an adapter TRL loads the reference model by itself, as it is on disk."""
    from ftl_runner.models.loader import load_model_config
    from ftl_runner.trainer.grpo_arguments import beta_of

    if config.adapter.adapter is None and beta_of(config):
        rows, on_disk = base.get_input_embeddings().weight.shape[0], load_model_config(config).get_text_config()
        if rows != on_disk.vocab_size:
            message = "rl: grpo: the reference model has no rows for the tokens that were added"
            raise FtlError(message, "use an adapter, or trl: {beta: 0}", 2)


def _make_trainer(context: RunContext, setup: Setup, model: Any) -> GrpoTrainer:
    from ftl_runner.trainer.grpo_trainer import GrpoTrainer
    from ftl_runner.trainer.reference_model import drop_copied_adapter

    config, arguments = context.config, setup.arguments
    if config.model.model_revision:
        arguments.model_init_kwargs = {"revision": config.model.model_revision}  # the reference model's
    trainer = GrpoTrainer(
        **trainer_parts(context, setup, model),
        reward_funcs=_judges(config),
        rollout_func=_rollout_function(config),
    )
    if adapter_starts_at_zero(config):
        drop_copied_adapter(model)
    return trainer


def _judges(config: Config) -> list[Any]:
    """The reward functions, guarded, and reward models, loaded."""
    from ftl_runner.data.preference.rewards import load_reward_functions
    from ftl_runner.trainer.judging import guarded, load_judge

    assert config.preference.trl is not None, "load_reward_functions requires it"
    names = config.preference.trl.reward_funcs or ()
    trusted = bool(config.model.trust_remote_code)
    return [
        load_judge(found, trust_remote_code=trusted) if isinstance(found, str) else guarded(name, found)
        for name, found in zip(names, load_reward_functions(config), strict=True)
    ]


def _rollout_function(config: Config) -> Any:
    from ftl_runner.data.formats.python_path import import_object, no_module

    trl, key = config.preference.trl, "trl.rollout_func"
    return import_object(trl.rollout_func, key, no_module(key)) if trl and trl.rollout_func else None
