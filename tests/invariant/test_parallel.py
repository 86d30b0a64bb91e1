"""However a step is spread over processes, it is the same step: loss, gradient norm and the model that is saved.

Classes of configs run through the command line on two CPU processes (gloo), each against one process with the same
global batch. FTL_FULL_MATRIX=1 runs all of them; without it, every launcher and every way to hold the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.ftl_cli import Ftl, read_events, read_metrics, write_config
from tests.full_matrix import full_matrix

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
"""Relative, of each step's loss and gradient norm; and of the saved model's logits."""

LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
FAMILIES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": LORA,
    "lora-and-embeddings": {**LORA, "lora_modules_to_save": ["embed_tokens"]},
    "packed": {"sample_packing": True, "micro_batch_size": 1},
}
TORCHRUN = ("--launcher", "torchrun", "--", "--nproc_per_node=2")
DEEPSPEED = ("--launcher", "deepspeed", "--", "--num_gpus", "2")
RAY = ("--launcher", "ray")
LAYERS = {"transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}


@dataclass(frozen=True)
class Class:
    """One way to spread a run. ``shards`` are files of its checkpoint that only this way writes."""

    keys: dict[str, Any] = field(default_factory=dict)
    shards: tuple[str, ...] = ("optimizer.pt",)
    launcher: tuple[str, ...] = TORCHRUN


ZERO_12 = tuple(f"global_step*/*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1))
ZERO_3 = (*ZERO_12, "global_step*/zero_pp_rank_1_mp_rank_00_model_states.pt")
FSDP_FULL = ("pytorch_model_fsdp.bin", "optimizer.bin")
FSDP_SHARDED = ("pytorch_model_fsdp_0/__1_0.distcp", "optimizer_0/__1_0.distcp")


def offloaded(*what: str) -> dict[str, Any]:
    """ZeRO-3 with some of its state in CPU memory, in float32."""
    loaded: dict[str, Any] = json.loads((ROOT / "templates/deepspeed/zero3.json").read_text())
    loaded["zero_optimization"] |= {f"offload_{name}": {"device": "cpu"} for name in what}
    return loaded


def fsdp(**settings: Any) -> dict[str, Any]:
    return {"fsdp_version": 2, "fsdp_config": {**LAYERS, **settings}}


OLD_FSDP = {
    "fsdp": ["full_shard", "auto_wrap"],
    "fsdp_config": {
        "fsdp_sync_module_states": True,
        "fsdp_use_orig_params": False,
        "fsdp_state_dict_type": "FULL_STATE_DICT",
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
    },
}
CLASSES = {
    "ddp": Class(),
    "ddp-ray": Class({"ray_num_workers": 2}, launcher=RAY),
    "zero1": Class({"deepspeed": "zero1.json"}, ZERO_12),
    "zero2": Class({"deepspeed": "zero2.json"}, ZERO_12),
    "zero2-deepspeed": Class({"deepspeed": "zero2.json"}, ZERO_12, DEEPSPEED),
    "zero2-cpuoffload": Class({"deepspeed": "zero2_cpuoffload.json"}, ZERO_12),
    "zero3": Class({"deepspeed": "zero3.json"}, ZERO_3),
    "zero3-bf16-file": Class({"deepspeed": "zero3_bf16_cpuoffload_all.json"}, ZERO_3),
    "zero3-offload-optimizer": Class({"deepspeed": offloaded("optimizer")}, ZERO_3),
    "zero3-offload-all": Class({"deepspeed": offloaded("optimizer", "param")}, ZERO_3),
    "fsdp1-keys": Class(OLD_FSDP, FSDP_FULL),
    "fsdp2": Class(fsdp(), FSDP_FULL),
    "fsdp2-version-alone": Class({"fsdp_version": 2}, FSDP_FULL),
    "fsdp2-ray": Class({**fsdp(), "ray_num_workers": 2}, FSDP_FULL, RAY),
    "fsdp2-sharded": Class(
        fsdp(state_dict_type="SHARDED_STATE_DICT", reshard_after_forward=False, cpu_ram_efficient_loading=True),
        FSDP_SHARDED,
    ),
    "fsdp2-offload": Class(fsdp(offload_params=True), FSDP_FULL),
    "fsdp2-checkpointing": Class(fsdp(activation_checkpointing=True), FSDP_FULL),
}
ESSENTIAL = {
    "full": ("ddp-ray", "zero2-deepspeed", "zero3", "fsdp2"),
    "lora": ("fsdp2-sharded",),
}
"""Every launcher, and every code path for weights."""
MORE = {
    "full": (
        "ddp",
        "zero1",
        "zero2",
        "zero2-cpuoffload",
        "zero3-bf16-file",
        "zero3-offload-optimizer",
        "zero3-offload-all",
        "fsdp1-keys",
        "fsdp2-version-alone",
        "fsdp2-sharded",
        "fsdp2-offload",
        "fsdp2-checkpointing",
    ),
    "lora": ("ddp", "ddp-ray", "zero2-deepspeed", "zero3", "zero3-offload-all", "fsdp2", "fsdp2-ray"),
    "lora-and-embeddings": ("ddp", "zero3", "fsdp2", "fsdp2-sharded"),
    "packed": ("ddp", "zero3", "fsdp2"),
}
CASES = [pytest.param(family, name) for family, names in ESSENTIAL.items() for name in names]
CASES += [pytest.param(family, name, marks=full_matrix) for family, names in MORE.items() for name in names]


@dataclass(frozen=True)
class Run:
    folder: Path
    losses: list[float]
    eval_losses: list[float]
    grad_norms: list[float]


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Runs that others are compared with, made when first asked for."""
    return {}


def train(ftl: Ftl, name: str, settings: dict[str, Any], *args: str) -> Run:
    folder = ftl.cwd / name
    path = write_config(ftl.cwd / f"{name}.yml", {**settings, "output_dir": str(folder)})
    ftl.run("train", str(path), *args, timeout_s=800)  # DeepSpeed compiles at its first run
    history = read_metrics(folder)["history"]
    return Run(folder, *([row[name] for row in history if name in row] for name in ("loss", "eval_loss", "grad_norm")))


def family_settings(settings: dict[str, Any], family: str) -> dict[str, Any]:
    keys = {**settings, **FAMILIES[family]}
    if "lora_modules_to_save" in keys:
        keys["base_model"] += "-untied"  # FSDP refuses the other
    return keys


def one_process(ftl: Ftl, settings: dict[str, Any], family: str, runs: dict[str, Run]) -> Run:
    """Twice the micro-batches make the global batch of two processes."""
    if family not in runs:
        batch = {"gradient_accumulation_steps": 4}
        runs[family] = train(ftl, f"{family}-one", {**settings, **batch}, "--launcher", "single")
        assert min(runs[family].grad_norms) > settings["max_grad_norm"], "clipping is not at work"
        assert runs[family].losses[-1] < runs[family].losses[0]
        assert len(runs[family].eval_losses) == 2
    return runs[family]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_two_processes_walk_as_one(
    family: str, name: str, ftl: Ftl, settings: dict[str, Any], runs: dict[str, Run]
) -> None:
    chosen = CLASSES[name]
    settings = family_settings(settings, family)
    expected = one_process(ftl, settings, family, runs)
    found = train(ftl, f"{family}-{name}", {**settings, **chosen.keys}, *chosen.launcher)
    runs[f"{family}-{name}"] = found
    assert read_events(found.folder, "train_start")[-1]["world_size"] == 2
    for pattern in chosen.shards:
        assert list((found.folder / "checkpoint-6").glob(pattern)), f"not sharded as asked: no {pattern}"
    assert found.losses == pytest.approx(expected.losses, rel=TOLERANCE)
    assert found.eval_losses == pytest.approx(expected.eval_losses, rel=TOLERANCE)
    assert found.grad_norms == pytest.approx(expected.grad_norms, rel=TOLERANCE)
    assert_same_model(found.folder, expected.folder, settings["base_model"])


@pytest.mark.parametrize(
    "name",
    [pytest.param("zero3", marks=full_matrix), pytest.param("fsdp2", marks=full_matrix), "fsdp2-sharded"],
)
def test_a_sharded_run_goes_on_exactly(name: str, ftl: Ftl, settings: dict[str, Any], runs: dict[str, Run]) -> None:
    """From step 3, in another folder: the losses of the run that was not interrupted."""
    family = "lora" if name == "fsdp2-sharded" else "full"
    chosen = CLASSES[name]
    keys = {**family_settings(settings, family), **chosen.keys}
    before = runs.get(f"{family}-{name}") or train(ftl, f"{family}-{name}", keys, *chosen.launcher)
    keys["resume_from_checkpoint"] = str(before.folder / "checkpoint-3")
    after = train(ftl, f"{family}-{name}-resumed", keys, *chosen.launcher)
    assert read_events(after.folder, "resumed")[-1]["step"] == 3
    assert after.losses == pytest.approx(before.losses, rel=TOLERANCE)
    assert_same_model(after.folder, before.folder, settings["base_model"])


def assert_same_model(folder: Path, expected: Path, base_model: str) -> None:
    """Both load with transformers, or PEFT, and answer alike."""
    import torch

    found, wanted = logits(folder, base_model), logits(expected, base_model)
    torch.testing.assert_close(found, wanted, rtol=TOLERANCE, atol=TOLERANCE * float(wanted.abs().max()))


def logits(folder: Path, base_model: str) -> Any:
    """(tokens, vocabulary) of a few tokens."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapted = (folder / "adapter_config.json").is_file()
    model: Any = AutoModelForCausalLM.from_pretrained(base_model if adapted else folder, dtype=torch.float32)
    if adapted:
        model = PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        return model.eval()(torch.arange(40, 72).unsqueeze(0)).logits[0]
