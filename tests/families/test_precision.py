"""Number formats, attention and kernels of the configuration, each by real steps on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.families.architectures import FAMILIES
from tests.families.trial import run_steps, tiny_threads, write_model
from tests.unit.runner.snippets import needs_cpu

pytestmark = needs_cpu

Losses = list[float]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("llama")
    write_model(FAMILIES[0], folder)
    with tiny_threads():
        yield folder


@pytest.fixture(scope="module")
def plain(llama: Path) -> Losses:
    return run_steps(llama, "bf16: false")


@pytest.mark.parametrize(
    ("lines", "tolerance"),
    [
        ("bf16: auto", 2e-4),
        ("tf32: true\nbf16: false", 2e-4),
        ("bf16: full", 2e-2),
        ("bfloat16: true", 2e-2),
        ("attn_implementation: eager\nbf16: false", 2e-4),
        ("flash_attention: true\nbf16: false", 2e-4),
        ("xformers_attention: true\nbf16: false", 2e-4),
        ("sdp_attention: true\nbf16: false", 2e-4),
        ("liger_rope: true\nliger_fused_linear_cross_entropy: true\nbf16: false", 2e-4),
    ],
)
def test_packed_gives_the_losses_of_unpacked(lines: str, tolerance: float, llama: Path, plain: Losses) -> None:
    assert run_steps(llama, lines, packed=True) == pytest.approx(plain, abs=tolerance)


@pytest.mark.slow
def test_compiled_model_trains_alike(llama: Path, plain: Losses) -> None:
    """Without the last stage, code generation, which takes minutes on a CPU."""
    lines = "torch_compile: true\ntorch_compile_backend: aot_eager\nbf16: false"
    assert run_steps(llama, lines, packed=True) == pytest.approx(plain, abs=2e-4)
