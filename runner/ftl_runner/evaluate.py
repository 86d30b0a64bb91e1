"""``ftl evaluate``: loss and perplexity of the tuned model on the evaluation set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_runner.methods import method_name

if TYPE_CHECKING:
    from ftl_config import Config


def evaluate(config: Config) -> dict[str, float]:
    """``eval_loss`` (nats a trained token), ``perplexity`` and ``num_rows``.

    Raises:
        FtlError: the configuration sets no evaluation data aside, or trains something else than the next token.
    """
    if (method := method_name(config)) != "sft":
        message = f"ftl evaluate measures the next-token loss, which is no measure of {method}"
        raise FtlError(message, "its own figures are in metrics.json: set val_set_size or test_datasets and train", 2)
    from transformers import TrainingArguments

    from ftl_runner.data import make_collator, prepare
    from ftl_runner.inference import load_for_inference
    from ftl_runner.models.isolation import check_isolation, joins_sequences, make_layout, refuse_leaking_model
    from ftl_runner.models.loader import load_model_config
    from ftl_runner.models.precision import choose_precision
    from ftl_runner.trainer.token_trainer import TokenTrainer

    refuse_leaking_model(config, load_model_config(config).model_type)
    model, tokenizer = load_for_inference(config)
    prepared = prepare(config, tokenizer, cache_root=None, on_progress=None)
    if prepared.eval is None:
        raise FtlError("there is nothing to evaluate on", "set val_set_size or test_datasets", exit_code=2)
    precision = choose_precision(config)
    arguments = TrainingArguments(
        output_dir=str(config.checkpointing.output_dir),
        per_device_eval_batch_size=config.training.eval_batch_size or config.training.micro_batch_size or 1,
        bf16=precision.bf16,
        fp16=precision.fp16,
        use_cpu=precision.use_cpu,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
    packed = bool(config.data.sample_packing) and config.data.eval_sample_packing is not False
    layout = make_layout(config, model.config)
    trainer: Any = TokenTrainer(
        model=model,
        args=arguments,
        eval_dataset=prepared.eval,
        data_collator=make_collator(config, tokenizer, packed=packed, layout=layout),
    )
    if joins_sequences(config):
        check_isolation(model, layout)
    loss = float(trainer.evaluate()["eval_loss"])
    return {"eval_loss": loss, "perplexity": math.exp(min(loss, 80.0)), "num_rows": len(prepared.eval)}
