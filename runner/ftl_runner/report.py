"""The end of a run: save the model, sample it, write metrics and the loss curve, publish all to the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.protocol import EventType
from ftl_runner.context import RunContext
from ftl_runner.distributed.fsdp import gather_at_save
from ftl_runner.metrics import make_metrics
from ftl_runner.models.plain_lora import write_plain_lora
from ftl_runner.samples import draw_samples

if TYPE_CHECKING:
    from ftl_runner.data import Prepared
    from ftl_runner.trainer.token_trainer import TokenTrainer

METRICS_FILE = "metrics.json"
PLOT_FILE = "loss.png"
FINAL_FOLDER = "final"


def finish_run(context: RunContext, trainer: TokenTrainer, tokenizer: Any, prepared: Prepared) -> None:
    """Collective: every rank calls it; the main rank writes."""
    context.events.phase("save", f"saving to {context.output_dir}")
    gather_at_save(trainer)
    trainer.save_model(str(context.output_dir))
    context.ranks.barrier()
    tokens = sum(context.ranks.gather(int(trainer.token_count.seen)))
    if context.ranks.is_main:
        write_plain_lora(trainer.model, context.output_dir)
        tokenizer.save_pretrained(str(context.output_dir))
        samples = draw_samples(context, trainer, tokenizer)
        for sample in samples:
            context.events.emit(EventType.SAMPLE, **sample)
        metrics = make_metrics(context, trainer, prepared, tokens)
        (context.output_dir / METRICS_FILE).write_text(json.dumps({**metrics, "samples": samples}, indent=1))
        _plot(context, metrics)
        files = _publish(context)
        summary = {name: value for name, value in metrics.items() if name != "history"}
        context.events.emit(EventType.SUMMARY, metrics=summary, files=files)
    context.ranks.barrier()


def _plot(context: RunContext, metrics: dict[str, Any]) -> None:
    from ftl_runner.plot import plot_losses

    plot_losses(metrics["history"], context.output_dir / PLOT_FILE, title=context.identity.run_id)


def _publish(context: RunContext) -> dict[str, str]:
    """Copy the result beside the checkpoints where those are elsewhere; name -> path or URI for the summary."""
    result = [path for path in sorted(context.output_dir.iterdir()) if path.is_file()]
    files = {
        "model": str(context.output_dir),
        "metrics": str(context.output_dir / METRICS_FILE),
        "loss curve": str(context.output_dir / PLOT_FILE),
    }
    if Path(context.store.uri) != context.output_dir:
        for path in result:
            context.store.upload(path, f"{FINAL_FOLDER}/{path.name}")
        files["published"] = f"{context.store.uri}/{FINAL_FOLDER}"
    return files
