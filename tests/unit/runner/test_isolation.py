"""Packed rows give what the sequences give alone: logits, loss and gradients, or they are refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from ftl_runner.data.collate import Layout, PackedCollator, PaddedCollator
from ftl_runner.models.errors import ModelError
from ftl_runner.models.isolation import ISOLATING, check_isolation, make_layout, refuse_leaking_model
from ftl_runner.patches.transformers_lfm2 import MODULES, VERSIONS, causal_convolution
from tests.unit.runner.snippets import config_of
from tests.unit.runner.tiny_models import packed_rows, sequences, tiny_causal_model

IGNORE = -100
GROUPS = [[0, 1, 2], [3, 4]]
PACKING = config_of("sample_packing: true")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny tensors: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def result_of(model: Any, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor, list[torch.Tensor]]:
    """Loss per trained token, logits and gradients."""
    model.zero_grad()
    inputs = {name: value for name, value in batch.items() if name != "num_tokens"}
    trained = int((batch["labels"][:, 1:] != IGNORE).sum())
    output = model(**inputs, use_cache=False, num_items_in_batch=torch.tensor(trained))
    output.loss.backward()
    return (
        output.loss.item(),
        output.logits.detach(),
        [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None],
    )


def by_sequence(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The logits of each sequence of a packed batch; padding is left out."""
    parts = []
    for row, ids, positions in zip(logits, batch["input_ids"], batch["position_ids"], strict=True):
        starts = torch.nonzero(positions == 0).flatten().tolist()
        spans = pairwise([*starts, len(positions)])
        parts += [row[start:stop] for start, stop in spans if ids[start] != 0]
    return parts


def compare_with_unpacked(model: Any, layout: Layout, *, train: bool = False) -> None:
    rows = sequences()
    packed = PackedCollator(0, 24, layout=layout)(packed_rows(rows, GROUPS))
    assert ("attention_mask" in packed) is layout.block_mask
    plain = [{"input_ids": row, "labels": [IGNORE, *row[1:]]} for row in rows]
    unpacked = PaddedCollator(0, joined=PackedCollator(0))(plain)
    model.train(train)
    loss, logits, gradients = result_of(model, packed)
    loss_alone, logits_alone, gradients_alone = result_of(model, unpacked)
    assert loss == pytest.approx(loss_alone, abs=1e-5)
    parts = by_sequence(logits, packed)
    assert [len(part) for part in parts] == [len(row) for row in rows]
    for number, part in enumerate(parts):
        torch.testing.assert_close(part, logits_alone[number, : len(part)], atol=2e-5, rtol=1e-4)
    for left, right in zip(gradients, gradients_alone, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-3)


FAST = {
    "sdpa": {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "gpt_neox", "lfm2"},
    "eager": {"llama", "mistral", "gemma3_text", "lfm2"},
}


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        pytest.param(kind, attention, marks=() if kind in fast else pytest.mark.slow)
        for kind in sorted(ISOLATING)
        for attention, fast in FAST.items()
    ],
)
def test_packed_equals_unpacked(kind: str, attention: str) -> None:
    model = tiny_causal_model(kind, attention)
    compare_with_unpacked(model, make_layout(PACKING, model.config))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("sizes", [{"multi_query": True}, {"new_decoder_architecture": True, "num_kv_heads": 2}])
def test_falcon_is_given_a_mask(sizes: dict[str, Any], attention: str) -> None:
    model = tiny_causal_model("falcon", attention, **sizes)
    layout = make_layout(PACKING, model.config)
    assert layout.block_mask
    compare_with_unpacked(model, layout)
    check_isolation(model, layout)
    check_isolation(model.to(torch.bfloat16), layout)
    with pytest.raises(ModelError, match=r"cannot be used with this model \(falcon\)"):
        check_isolation(model, Layout())


def test_falcon_with_alibi_is_refused() -> None:
    model = tiny_causal_model("falcon", alibi=True)
    with pytest.raises(ModelError, match=r"cannot be used with this model \(falcon\)"):
        check_isolation(model, make_layout(PACKING, model.config))


@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_packed_equals_unpacked_with_checkpointed_gradients(kind: str) -> None:
    model = tiny_causal_model(kind)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compare_with_unpacked(model, make_layout(PACKING, model.config), train=True)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "lfm2"])
def test_flex_attention(kind: str) -> None:
    """PyTorch has no backward pass of it on a CPU, and compiles for long: the masks, uncompiled."""
    model = tiny_causal_model(kind, "flex_attention").requires_grad_(False)
    layout = make_layout(PACKING, model.config)
    batch = PackedCollator(0, 24, layout=layout)(packed_rows(sequences(), GROUPS))
    plain = tiny_causal_model(kind, "sdpa")
    inputs = {name: value for name, value in batch.items() if name not in ("num_tokens", "labels")}
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, atol=2e-5, rtol=1e-4)


def reference_varlen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, cu_seqlens_q: torch.Tensor, window: int | None
) -> torch.Tensor:
    """What flash_attn_varlen_func computes: causal attention of each sequence by itself. (tokens, heads, size)."""
    bounds = cu_seqlens_q.tolist()
    parts = []
    for start, stop in pairwise(bounds):
        length = stop - start
        places = torch.arange(length)
        mask = places[:, None] >= places[None, :]
        if window is not None:
            mask &= places[:, None] - places[None, :] <= window
        heads = (part[start:stop].transpose(0, 1) for part in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask, enable_gqa=True)
        parts.append(out.transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "lfm2"])
def test_flash_attention_is_given_the_borders(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own way to the kernel; in the kernel's place, its contract on a CPU."""
    import transformers.modeling_flash_attention_utils as flash

    borders: list[list[int]] = []

    def varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **given: Any) -> torch.Tensor:
        assert given["causal"]
        assert torch.equal(given["cu_seqlens_q"], given["cu_seqlens_k"])
        borders.append(given["cu_seqlens_q"].tolist())
        window = given.get("window_size", (None,))[0]
        return reference_varlen(q, k, v, cu_seqlens_q=given["cu_seqlens_q"], window=window)

    def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **given: Any) -> torch.Tensor:
        raise AssertionError("a packed batch went to the kernel that does not know borders")

    names = ("dropout_p", "window_size", "deterministic", "softcap", "s_aux", "learnable_sink")
    supports = dict.fromkeys((*names, "max_seqlen_q", "max_seqlen_k"), True) | {"deterministic": False}
    process = flash.partial(flash._process_flash_attention_kwargs, supports_mapping=supports)
    functions = (dense, varlen, None, None, None)
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *_, **__: (functions, process))
    model = tiny_causal_model(kind, "sdpa")
    expected = packed_logits(model, make_layout(PACKING, model.config))
    model.config._attn_implementation = "flash_attention_2"
    layout = make_layout(PACKING, model.config)
    assert layout.one_row
    for part, other in zip(packed_logits(model, layout), expected, strict=True):
        torch.testing.assert_close(part, other, atol=2e-5, rtol=1e-4)
    assert borders
    assert all(line == [0, 5, 14, 15, 27, 34, 48] for line in borders)


def packed_logits(model: Any, layout: Layout) -> list[torch.Tensor]:
    """Of each sequence."""
    batch = PackedCollator(0, 24, layout=layout)(packed_rows(sequences(), GROUPS))
    inputs = {name: value for name, value in batch.items() if name not in ("num_tokens", "labels")}
    with torch.no_grad():
        return by_sequence(model(**inputs, use_cache=False).logits, batch)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_isolating_convolution(width: int) -> None:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(2, 6, 9), torch.randn(6, width), torch.randn(6)
    seq_idx = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, 3], [0] * 9], dtype=torch.int32)
    out = causal_convolution(hidden, weight, bias, "silu", seq_idx)
    for row, bounds in ((0, [0, 3, 4, 8, 9]), (1, [0, 9])):
        for start, stop in pairwise(bounds):
            part = torch.nn.functional.pad(hidden[row : row + 1, :, start:stop], (width - 1, 0))
            alone = torch.nn.functional.conv1d(part, weight.unsqueeze(1), bias, groups=6)
            torch.testing.assert_close(out[row : row + 1, :, start:stop], torch.nn.functional.silu(alone))


def test_the_change_to_lfm2_is_still_needed() -> None:
    """Fails with another transformers: look whether its PyTorch convolution takes seq_idx by now."""
    from importlib import import_module

    import transformers

    assert transformers.__version__ in VERSIONS
    for kind in MODULES:
        model = tiny_causal_model(kind)
        changed = packed_logits(model, make_layout(PACKING, model.config))
        module = import_module(MODULES[kind])
        isolating = module.causal_conv1d_fn
        module.causal_conv1d_fn = isolating.without_seq_idx
        try:
            leaking = packed_logits(model, Layout(sequence_numbers=True))
            assert max(float((a - b).abs().max()) for a, b in zip(leaking, changed, strict=True)) > 1e-3
        finally:
            module.causal_conv1d_fn = isolating


def test_lfm2_is_refused_with_another_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers, "__version__", "5.99.0")
    with pytest.raises(ModelError, match=r"sample_packing of lfm2 works with transformers .*, not 5\.99\.0"):
        make_layout(PACKING, tiny_causal_model("lfm2").config)


@pytest.mark.parametrize("kind", ["jamba", "mpt"])
@pytest.mark.parametrize("lines", ["sample_packing: true", "batch_flattening: true", "eval_sample_packing: true"])
def test_leaking_models_are_refused(kind: str, lines: str) -> None:
    with pytest.raises(ModelError, match=f"models of type {kind}") as raised:
        refuse_leaking_model(config_of(lines), kind)
    assert "sample_packing: false" in str(raised.value.hint)
    assert raised.value.exit_code == 2
    for harmless in ("batch_flattening: auto", "sample_packing: false"):
        refuse_leaking_model(config_of(harmless), kind)


@pytest.mark.parametrize("kind", ["falcon", "opt", "lfm2"])
def test_a_leak_is_seen_in_a_model_that_nobody_knows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """lfm2 without the numbers of its sequences."""
    model = tiny_causal_model(kind)
    monkeypatch.setattr(model.config, "model_type", "unheard_of", raising=False)
    with pytest.raises(ModelError, match="one packed sequence changes what the model says of the next"):
        check_isolation(model, Layout())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_isolating_model_that_nobody_knows_may_pack(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_causal_model("mistral").to(dtype).train()
    monkeypatch.setattr(model.config, "model_type", "unheard_of", raising=False)
    assert check_isolation(model, Layout()) is None
    assert check_isolation(model, Layout(one_row=True)) is None
    assert model.training
    said = check_isolation(model.to("meta"), Layout())
    assert said is not None
    assert "was not checked" in said


@pytest.mark.parametrize(
    ("attention", "lines", "one_row", "flatten"),
    [
        ("sdpa", "sample_packing: true", False, False),
        ("flash_attention_2", "sample_packing: true", True, False),
        # FlashAttention would let sequences of a batch of several rows see each other.
        ("flash_attention_2", "sample_packing: true\nmultipack_real_batches: true", True, False),
        ("sdpa", "sample_packing: true\nmultipack_real_batches: false", True, False),
        ("sdpa", "batch_flattening: true", False, True),
        ("sdpa", "batch_flattening: auto", False, False),
        ("flash_attention_2", "batch_flattening: auto", True, True),
        ("flash_attention_2", "batch_flattening: auto\nsample_packing: true", True, False),
    ],
)
def test_layout(attention: str, lines: str, one_row: bool, flatten: bool) -> None:
    model_config = tiny_causal_model("llama").config
    model_config._attn_implementation = attention
    layout = make_layout(config_of(lines), model_config)
    assert (layout.one_row, layout.flatten) == (one_row, flatten)


@pytest.mark.parametrize(
    ("lines", "flatten"),
    [
        ("micro_batch_size: 2", True),
        ("batch_flattening: auto", True),
        ("batch_flattening: false", False),
        ("pad_to_sequence_len: true", False),
        ("sample_packing: true", False),
    ],
)
def test_unpacked_rows_are_joined_where_attention_goes_by_document(lines: str, flatten: bool) -> None:
    model_config = tiny_causal_model("llama").config
    assert make_layout(config_of(lines), model_config, by_document=True).flatten == flatten
    model_config.sliding_window = 8
    assert not make_layout(config_of(lines), model_config, by_document=True).flatten
