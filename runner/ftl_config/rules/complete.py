"""What a config needs before it can be run. Left out for partial configs."""

from __future__ import annotations

from collections.abc import Iterator

from ftl_config.keys import is_set
from ftl_config.rules.registry import Finding, Rule, error
from ftl_config.schema.config import Config

COMPLETENESS = True


def needs_base_model(config: Config) -> Iterator[Finding]:
    """There is a model to start from."""
    if not config.model.base_model:
        yield error("is missing", "base_model", hint="a Hugging Face id or a local directory")


def needs_datasets(config: Config) -> Iterator[Finding]:
    """There is something to train on."""
    if config.data.datasets is None and config.data.pretraining_dataset is None:
        yield error("is missing", "datasets", hint="datasets: [{path: data.jsonl, type: chat_template}]")


def needs_dataset_path(config: Config) -> Iterator[Finding]:
    """Each dataset says where it is; `...` of the documentation has been filled in."""
    for key in ("datasets", "test_datasets", "pretraining_dataset"):
        for index, entry in enumerate(getattr(config.data, key) or ()):
            if entry.path is None and not entry.data_files and entry.type != "_synthetic":
                yield error("has no path", (key, index))
            elif entry.path == "...":
                yield error("`...` stands for something to fill in", (key, index, "path"))
            if entry.type == "...":
                yield error("`...` stands for something to fill in", (key, index, "type"))


def needs_learning_rate(config: Config) -> Iterator[Finding]:
    """The one number for which no default is right."""
    if not is_set(config, "learning_rate"):
        yield error("is missing", "learning_rate", hint="2e-4 is usual for LoRA, 1e-5 for a full fine-tune")


def quantized_base_needs_adapter(config: Config) -> Iterator[Finding]:
    """A quantized base cannot be trained itself."""
    if config.adapter.adapter is not None:
        return
    for key in ("load_in_4bit", "load_in_8bit"):
        if getattr(config.adapter, key):
            hint = "write adapter: lora, or leave it out for a full fine-tune"
            yield error("needs an adapter: a quantized model cannot be trained by itself", key, "adapter", hint=hint)


RULES: list[Rule] = [
    needs_base_model,
    needs_datasets,
    needs_dataset_path,
    needs_learning_rate,
    quantized_base_needs_adapter,
]
