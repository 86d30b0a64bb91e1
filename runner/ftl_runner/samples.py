"""Answers of the tuned model beside the base model's, for prompts of the data set."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ftl_runner.context import RunContext
from ftl_runner.models.heads import head_of

if TYPE_CHECKING:
    from transformers import Trainer

    from ftl_config import Config


def draw_samples(context: RunContext, trainer: Trainer, tokenizer: Any) -> list[dict[str, Any]]:
    """Answers to the first prompts of the data; ``base`` is None where the base model no longer exists.

    With an adapter the base model is the same model with the adapter switched off. Models sharded over ranks
    (ZeRO-3, FSDP) are not sampled: generation would need every rank.
    """
    keys = context.config.logging
    if not keys.generate_samples or _is_sharded(trainer) or head_of(context.config):
        return []
    from ftl_runner.data import sample_prompts

    context.events.phase("sample", "asking the base and the tuned model")
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.eval()
    sampling = _sampling_options(context.config)
    samples = []
    for sample in sample_prompts(context.config, tokenizer, keys.num_generation_samples):
        tuned = generate(model, tokenizer, sample.prompt, keys.generation_max_new_tokens, **sampling)
        base = None
        if hasattr(model, "disable_adapter"):
            with model.disable_adapter():
                base = generate(model, tokenizer, sample.prompt, keys.generation_max_new_tokens, **sampling)
        samples.append({"prompt": sample.question, "base": base, "tuned": tuned})
    return samples


def generate(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, **options: Any) -> str:
    """The model's continuation of a rendered prompt, without the prompt and without special tokens."""
    import torch

    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(model.device)
    autocast: Any = contextlib.nullcontext()
    if next(model.parameters()).dtype == torch.bfloat16:
        autocast = torch.autocast(model.device.type, dtype=torch.bfloat16)
    with torch.no_grad(), autocast:
        output = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            **({"do_sample": False} | options),
        )
    answer = output[0, inputs["input_ids"].shape[1] :]
    text: str = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()


def _sampling_options(config: Config) -> dict[str, Any]:
    keys = config.logging
    if not keys.generation_do_sample:
        return {"do_sample": False}
    options = {
        "temperature": keys.generation_temperature,
        "top_p": keys.generation_top_p,
        "top_k": keys.generation_top_k,
    }
    return {"do_sample": True} | {name: value for name, value in options.items() if value is not None}


def _is_sharded(trainer: Trainer) -> bool:
    if trainer.is_fsdp_enabled:
        return True
    if not trainer.is_deepspeed_enabled:
        return False
    plugin = trainer.accelerator.state.deepspeed_plugin
    return bool(plugin.zero_stage == 3)
