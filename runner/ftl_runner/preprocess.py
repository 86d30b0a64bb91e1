"""``ftl preprocess``: fill the prepared-dataset cache, and say what is in it; list the types of rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config import Config
    from ftl_runner.data import PrepareReport


def preprocess(config: Config, *, num_examples: int, text_only: bool = False) -> None:
    """Prepare the dataset of a configuration and print its report.

    With ``num_examples`` rows token by token, and then a plot of lengths too (which takes a second to draw).
    """
    from ftl_runner.data import prepare
    from ftl_runner.data.formats.preference_registry import kind_of
    from ftl_runner.data.open_stream import stream_lines
    from ftl_runner.data.preference.preview import print_preferences
    from ftl_runner.data.preview import print_examples, print_report
    from ftl_runner.data.stream import is_streamed
    from ftl_runner.models.tokenizer import load_tokenizer
    from ftl_runner.progress_bar import show_progress

    tokenizer = load_tokenizer(config)
    with show_progress() as say:
        prepared = prepare(config, tokenizer, cache_root=None, on_progress=say)
    if is_streamed(config):
        print_examples(prepared.train.sample, tokenizer, num_examples, text_only=text_only)
        sys.stdout.writelines(f"{line}\n" for line in stream_lines(prepared.report))
        return
    if num_examples:
        show = print_examples if kind_of(config) is None else print_preferences
        show(prepared.train, tokenizer, num_examples, text_only=text_only)
    print_report(prepared.report)
    sys.stdout.write(_steps(config, prepared.report.num_rows) + "\n")
    if num_examples:
        sys.stdout.write(f"lengths of the sequences: {_plot(prepared.report)}\n")


def _steps(config: Config, num_rows: int) -> str:
    """The steps that training will take, as the trainer counts them."""
    from ftl_runner.trainer.arguments import accumulation_steps, make_schedule

    launch, keys = config.launch, config.training
    workers = (launch.workers_per_node or 1) * launch.nodes
    if "ray_num_workers" in config.distributed.model_fields_set:
        workers = config.distributed.ray_num_workers
    schedule = make_schedule(config, num_rows, workers)
    length = f"max_steps {keys.max_steps:,}" if keys.max_steps else f"{float(keys.num_epochs):g} epochs"
    return (
        f"training: {schedule.total_steps:,} steps ({length}, {schedule.steps_per_epoch:,} steps an epoch) of "
        f"{schedule.global_batch} rows: micro_batch_size {keys.micro_batch_size} x gradient accumulation "
        f"{accumulation_steps(config)} x {workers} {'worker' if workers == 1 else 'workers'}"
    )


def _plot(report: PrepareReport) -> Path:
    from ftl_runner.data.lengths_plot import plot_lengths

    target = Path(report.cache_path) / "lengths.png"
    plot_lengths(report, target)
    return target


def print_types() -> None:
    """Print every ``type:`` that a dataset may have, with a row that it reads, in the order of the registry."""
    from ftl_runner.data import list_types

    groups = list_types()
    width = max(len(name) for _, types in groups for name, _ in types)
    for number, (title, types) in enumerate(groups):
        sys.stdout.write(("\n" if number else "") + f"# {title}\n")
        for name, row in types:
            sys.stdout.write(f"{name:{width}}  {json.dumps(row, ensure_ascii=False)}\n")
