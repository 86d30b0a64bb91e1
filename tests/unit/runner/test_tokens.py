"""Tokens of the user's own: added, renamed, trained, saved, and there again when the tuned model is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ftl_config import Config
from ftl_runner.data import make_collator
from ftl_runner.inference import load_for_inference
from ftl_runner.merge import merge_lora
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.loader import load_base_model
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.token_trainer import SftTrainer
from tests.families.trial import word_tokenizer
from tests.unit.runner.snippets import CPU, config_of, needs_cpu
from tests.unit.runner.tiny_models import VOCABULARY, tiny_causal_model

TEXT = "<call> 7 8 9 <done> 10 11 <call> 12"
IDS = [300, 7, 8, 9, 301, 10, 11, 300, 12]
ADDED = "tokens: ['<call>', '<done>']"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a tokenizer of one word a token, whose last ten tokens are reserved."""
    folder = tmp_path_factory.mktemp("base")
    tiny_causal_model("llama", eos_token_id=2, bos_token_id=1).save_pretrained(folder)
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [str(number) for number in range(290, 300)]})
    tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=[2, 3], temperature=0.6, do_sample=True).save_pretrained(folder)
    return folder


def configured(base: Path, folder: Path, lines: str) -> Config:
    return config_of(
        f"base_model: {base}\noutput_dir: {folder}\nbf16: false\nlearning_rate: 3e-2\nmax_steps: 3\nwarmup_steps: 0\n"
        f"micro_batch_size: 2\nsave_strategy: no\nlogging_steps: 1\noptimizer: adamw_torch\n{lines}"
    )


def train(config: Config) -> torch.Tensor:
    """Trains on a text with the tokens, saves what a run saves, and returns the logits of that text."""
    torch.manual_seed(5)
    tokenizer = load_tokenizer(config)
    model: Any = add_adapter(load_base_model(config, tokenizer, CPU), config)
    assert tokenizer(TEXT)["input_ids"] == IDS
    rows = [{"input_ids": IDS, "labels": [-100, *IDS[1:]]}] * 8
    trainer = SftTrainer(
        config=config,
        model=model,
        args=make_arguments(config, CPU, make_schedule(config, len(rows), 1), 1),
        train_dataset=rows,
        data_collator=make_collator(config, tokenizer, packed=False),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(str(config.checkpointing.output_dir))
    tokenizer.save_pretrained(str(config.checkpointing.output_dir))
    return logits_of(model)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([IDS])).logits  # type: ignore[no-any-return]


@needs_cpu
@pytest.mark.parametrize(
    "lines",
    [
        "adapter: lora\nlora_modules_to_save: [embed_tokens, lm_head]",
        "adapter: lora\npeft_trainable_token_indices: [300, 301]",
        "adapter: lora",  # new rows stay as drawn, and have to be drawn alike
        "adapter: lora\nlora_modules_to_save: [embed_tokens, lm_head]\nresize_token_embeddings_to_32x: true",
        "adapter: lora\nmean_resizing_embeddings: true",
    ],
)
def test_added_tokens_with_an_adapter(lines: str, base: Path, tmp_path: Path) -> None:
    """What training computed is what inference and the merged model compute."""
    config = configured(base, tmp_path, f"{ADDED}\n{lines}")
    expected = train(config)
    model, tokenizer = load_for_inference(config)
    torch.manual_seed(77)
    torch.testing.assert_close(logits_of(model), expected, atol=1e-4, rtol=1e-3)
    assert tokenizer(TEXT)["input_ids"] == IDS
    merged = merge_lora(config)
    assert AutoTokenizer.from_pretrained(merged)(TEXT)["input_ids"] == IDS
    again = AutoModelForCausalLM.from_pretrained(merged)
    assert again.config.vocab_size == expected.shape[-1] == (320 if "32x" in lines else 302)
    torch.testing.assert_close(logits_of(again), expected, atol=1e-4, rtol=1e-3)


@needs_cpu
def test_added_tokens_of_a_full_fine_tune(base: Path, tmp_path: Path) -> None:
    config = configured(base, tmp_path, ADDED)
    expected = train(config)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(again), expected, atol=1e-4, rtol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"] == IDS
    rows = again.get_input_embeddings().weight[300:]
    untrained = load_base_model(config, load_tokenizer(config), CPU)
    assert not torch.allclose(rows, untrained.get_input_embeddings().weight[300:])


@needs_cpu
def test_renamed_tokens(base: Path, tmp_path: Path) -> None:
    """The vocabulary keeps its size, and the model its embeddings."""
    lines = "added_tokens_overrides: {290: '<call>', 291: '<done>'}\nadapter: lora"
    config = configured(base, tmp_path, lines)
    tokenizer = load_tokenizer(config)
    renamed = [290, 7, 8, 9, 291, 10, 11, 290, 12]
    assert tokenizer(TEXT)["input_ids"] == renamed
    assert tokenizer.decode(renamed) == TEXT
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.name_or_path == str(base)
    assert load_base_model(config, tokenizer, CPU).get_input_embeddings().weight.shape[0] == VOCABULARY
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"] == renamed


def test_renamed_end_token(smollm2: Path) -> None:
    """Of a real tokenizer: roles go along, other tokens and the template stay."""
    plain = load_tokenizer(config_of(f"base_model: {smollm2}"))
    lines = "added_tokens_overrides: {2: <|over|>, 5: <|call|>}"
    tokenizer = load_tokenizer(config_of(f"base_model: {smollm2}\n{lines}"))
    assert (tokenizer.eos_token, tokenizer.eos_token_id, len(tokenizer)) == ("<|over|>", 2, len(plain))
    assert tokenizer("Hi <|call|> there<|over|>")["input_ids"] == [*plain("Hi <file_sep> there")["input_ids"], 2]
    assert tokenizer.chat_template == plain.chat_template


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ("{7: '<call>'}", "7 is not the id of an added token", "290 (290), "),
        ("{999: '<call>'}", "999 is not the id of an added token", "290 (290), "),
        ("{290: '7'}", "290: '7' is token 7 already", ""),
        ("{290: '<a>', 291: '<a>'}", "290: '<a>' is token another one already", ""),
    ],
)
def test_renaming_that_cannot_be(overrides: str, message: str, hint: str, base: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(config_of(f"base_model: {base}\nadded_tokens_overrides: {overrides}"))
    assert message in caught.value.message
    assert hint.replace("290 (290), ", "290 (290)") in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def test_a_new_special_token_has_to_be_trained(base: Path) -> None:
    lines = f"base_model: {base}\nadapter: lora\nspecial_tokens: "
    with pytest.raises(ModelError, match="eos_token: <end> is new to this tokenizer, and the adapter would") as caught:
        load_tokenizer(config_of(lines + "{eos_token: <end>}"))
    assert caught.value.exit_code == 2
    for trained in ("lora_modules_to_save: [embed_tokens, lm_head]", "lora_target_modules: [embed_tokens]"):
        assert load_tokenizer(config_of(lines + "{eos_token: <end>}\n" + trained)).eos_token_id == 300
    assert load_tokenizer(config_of(lines + "{pad_token: <pad2>}")).pad_token_id == 300
    assert load_tokenizer(config_of(lines + "{eos_token: '17'}")).eos_token_id == 17
    full = load_tokenizer(config_of(f"base_model: {base}\nspecial_tokens: {{eos_token: <end>}}"))
    assert full.eos_token == "<end>"


@needs_cpu
def test_answers_end_at_the_new_end_token(base: Path, tmp_path: Path) -> None:
    """Both ways of merging, and the model that is asked; the base's own way to generate stays."""
    for method in ("memory_efficient", "legacy"):
        lines = f"adapter: lora\nspecial_tokens: {{eos_token: '295'}}\nmerge_method: {method}"
        config = configured(base, tmp_path / method, lines)
        tokenizer = load_tokenizer(config)
        add_adapter(load_base_model(config, tokenizer, CPU), config).save_pretrained(tmp_path / method)
        asked, _ = load_for_inference(config)
        assert asked.generation_config.eos_token_id == [295, 2, 3]
        merged = merge_lora(config)
        saved = AutoModelForCausalLM.from_pretrained(merged)
        assert saved.generation_config.eos_token_id == [295, 2, 3]
        assert saved.generation_config.temperature == 0.6
        assert saved.config.eos_token_id == 295
