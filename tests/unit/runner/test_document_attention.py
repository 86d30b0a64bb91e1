"""Packed rows attended to sequence by sequence give what the sequences give alone, and no mask is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers.masking_utils

from ftl_runner.data.collate import Layout, PackedCollator
from ftl_runner.models.document_attention import MODEL_TYPES, NAME, attend_by_document
from ftl_runner.models.isolation import ISOLATING
from tests.unit.runner.test_isolation import GROUPS, compare_with_unpacked
from tests.unit.runner.tiny_models import packed_rows, sequences, tiny_causal_model

FAST = {"llama", "mistral", "qwen3", "gpt_neox", "phi3"}


def documents_model(kind: str, **settings: Any) -> Any:
    model = tiny_causal_model(kind, "sdpa", **settings)
    assert attend_by_document(model)
    assert model.config._attn_implementation == NAME
    return model


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in FAST else pytest.mark.slow) for kind in sorted(MODEL_TYPES)]
)
@pytest.mark.parametrize("layout", [Layout(), Layout(one_row=True)], ids=["rows", "one row"])
def test_packed_equals_unpacked(kind: str, layout: Layout) -> None:
    assert kind in ISOLATING
    compare_with_unpacked(documents_model(kind), layout)


def test_packed_equals_unpacked_with_checkpointed_gradients() -> None:
    model = documents_model("llama")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compare_with_unpacked(model, Layout(), train=True)


@pytest.mark.parametrize("kind", sorted(FAST))
def test_no_mask_is_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a window; with one shorter than the row there has to be a mask."""
    model = documents_model(kind, **({"sliding_window": None} if kind == "mistral" else {}))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a mask over the whole row")

    monkeypatch.setattr(transformers.masking_utils, "sdpa_mask", never)
    batch = PackedCollator(0, 24)(packed_rows(sequences(), GROUPS))
    model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)


def test_generation_is_the_same() -> None:
    """With a cache, keys are more than queries; with padding, there is a mask."""
    prompt = {"input_ids": torch.tensor([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]])}
    prompt["attention_mask"] = (prompt["input_ids"] != 0).long()
    answers = [
        model.generate(**prompt, max_new_tokens=6, do_sample=False, pad_token_id=0, use_cache=True)
        for model in (documents_model("llama"), tiny_causal_model("llama"))
    ]
    assert torch.equal(*answers)


def test_other_models_are_left_alone() -> None:
    for model in (tiny_causal_model("gemma2"), tiny_causal_model("llama", "eager")):
        before = model.config._attn_implementation
        assert not attend_by_document(model)
        assert model.config._attn_implementation == before


def test_it_is_not_saved(tmp_path: Any) -> None:
    documents_model("llama").save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
