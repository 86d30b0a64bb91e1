"""Which layers a full fine-tune trains: Spectrum's choice by the weights, LISA's by the step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from ftl_config import FtlError
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.spectrum import signal_to_noise
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.lisa import LisaLayers
from tests.unit.runner.snippets import CPU, config_of
from tests.unit.runner.test_adapters_train import TOKENS

SPECTRUM = "plugins: [axolotl.integrations.spectrum.SpectrumPlugin]\n"
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **SIZES))


def add_signal(weight: torch.Tensor) -> None:
    """A few directions far above the noise."""
    with torch.no_grad():
        out, size = weight.shape
        weight.add_(torch.randn(out, 3) @ torch.randn(3, size) * weight.std() * 2)


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_signal_in_noise() -> None:
    torch.manual_seed(1)
    noise = torch.randn(64, 96)
    with_signal = noise.clone()
    add_signal(with_signal)
    assert signal_to_noise(with_signal) * torch.linalg.svdvals(with_signal)[0] > 1
    assert signal_to_noise(with_signal * 10) == pytest.approx(signal_to_noise(with_signal) / 10, rel=1e-3)
    assert signal_to_noise(torch.stack([with_signal, with_signal])) == pytest.approx(signal_to_noise(with_signal))
    # By hand: sigma = IQR / 1.349, threshold = sigma (1 + sqrt(64 / 96)).
    values = torch.linalg.svdvals(with_signal)
    sigma = (values.quantile(0.75) - values.quantile(0.25)) / 1.349
    above = values > sigma * (1 + (64 / 96) ** 0.5)
    expected = values[above].sum() / values[~above].sum() / values[0]
    assert signal_to_noise(with_signal) == pytest.approx(expected.item(), rel=1e-5)


def test_spectrum_trains_the_best_layers_of_each_kind(tmp_path: Path) -> None:
    model = llama()
    best = {"self_attn.q_proj": 2, "mlp.down_proj": 0}
    for kind, number in best.items():
        for layer in range(4):  # of noise alone, each with one large direction to be divided by
            weight = model.model.layers[layer].get_submodule(kind).weight
            weight.data.normal_(std=0.02)
            if layer == number:
                add_signal(weight)
    config = config_of(f"{SPECTRUM}spectrum_top_fraction: 0.25\noutput_dir: {tmp_path}")
    scan = {
        name: signal_to_noise(parameter)
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and ".layers." in name
    }
    kinds = {name.split(".", 3)[3] for name in scan}
    expected = {max((name for name in scan if name.endswith(kind)), key=lambda name: scan[name]) for kind in kinds}
    assert trained(add_adapter(model, config)) == expected | {"lm_head.weight", "model.embed_tokens.weight"}
    assert len(expected) == 7
    # The next attempt need not measure, and chooses the same though the weights have moved on.
    cache = tmp_path / "spectrum.json"
    saved = json.loads(cache.read_text())
    assert saved["snr"] == pytest.approx(scan)
    saved["snr"]["model.layers.3.mlp.up_proj.weight"] = 99.0
    cache.write_text(json.dumps(saved))
    assert "model.layers.3.mlp.up_proj.weight" in trained(add_adapter(llama(), config))


def test_scan_of_axolotl_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = {f"model.layers.{n}.mlp.up_proj": {"snr": float(n), "type": "mlp.up_proj"} for n in range(4)}
    (tmp_path / "model_snr_results").mkdir()
    file = tmp_path / "model_snr_results/snr_results_some-tiny-model.json"
    file.write_text(json.dumps(rows))
    config = config_of(f"{SPECTRUM}spectrum_model_name: some/tiny_model\noutput_dir: {tmp_path / 'out'}")
    found = trained(add_adapter(llama(), config))
    assert found == {f"model.layers.{n}.mlp.up_proj.weight" for n in (2, 3)} | {
        "lm_head.weight",
        "model.embed_tokens.weight",
    }
    file.write_text(json.dumps({"transformer.h.0.mlp": {"snr": 1.0, "type": "mlp"}}))
    with pytest.raises(ModelError, match="names no layer of this model"):
        add_adapter(llama(), config)


def test_share_of_no_layer(tmp_path: Path) -> None:
    config = config_of(f"{SPECTRUM}spectrum_top_fraction: 0.1\noutput_dir: {tmp_path}")
    with pytest.raises(ModelError, match=r"spectrum_top_fraction: 0\.1 leaves no layer"):
        add_adapter(llama(), config)


class Recorder(TrainerCallback):
    """Which layers each step moved."""

    def __init__(self) -> None:
        self.moved: list[set[int]] = []
        self.before: dict[str, torch.Tensor] = {}

    def on_step_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
        self.before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, self.before[name])]
        assert "lm_head.weight" in moved
        assert "model.embed_tokens.weight" in moved
        self.moved.append({int(name.split(".")[2]) for name in moved if ".layers." in name})


def lisa_run(folder: Path, steps: int, resume: bool = False, lines: str = "") -> list[set[int]]:
    config = config_of(
        f"output_dir: {folder}\nlearning_rate: 1e-2\nmax_steps: {steps}\nsave_steps: 4\nmicro_batch_size: 2\n"
        f"weight_decay: 0.1\nlisa_n_layers: 2\nlisa_step_interval: 3\n{lines}"
    )
    arguments = make_arguments(config, CPU, make_schedule(config, 64, 1), 1)
    rows = [{"input_ids": TOKENS[0], "labels": TOKENS[0]}] * 64
    trainer = OptimizerFromConfig(config=config, model=llama(), args=arguments, train_dataset=rows)
    recorder = Recorder()
    trainer.add_callback(LisaLayers(config))
    trainer.add_callback(recorder)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-4") if resume else None)
    return recorder.moved


@pytest.mark.slow
def test_lisa_trains_some_layers_at_a_time(tmp_path: Path) -> None:
    moved = lisa_run(tmp_path, 12)
    assert [len(layers) for layers in moved] == [2] * 12
    periods = [moved[start : start + 3] for start in range(0, 12, 3)]
    assert all(first == second == third for first, second, third in periods)
    assert len({frozenset(period[0]) for period in periods}) > 1
    assert lisa_run(tmp_path, 12, resume=True) == moved[4:]


def test_lisa_needs_layers(tmp_path: Path) -> None:
    with pytest.raises(FtlError, match=r"the model has no list 'transformer\.h'"):
        lisa_run(tmp_path, 2, lines="lisa_layers_attribute: transformer.h")
