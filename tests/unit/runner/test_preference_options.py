"""Keys of preference methods as arguments: Axolotl's meaning, TRL's names and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftl_config import FtlError
from ftl_config.rules.preference_losses import COMPARES_ANSWERS, UNSUPPORTED_RL
from ftl_runner.methods import METHODS, load_method
from ftl_runner.methods.dpo import dpo_options
from ftl_runner.methods.kto import balance_warning, kto_options
from ftl_runner.methods.orpo import orpo_options
from ftl_runner.methods.preference import adapter_starts_at_zero, check_head, keep_head_fused
from ftl_runner.methods.simpo import simpo_options
from ftl_runner.models.errors import ModelError
from ftl_runner.trainer.arguments import Schedule, make_arguments
from tests.unit.runner.snippets import CPU, config_of
from tests.unit.runner.tiny_models import tiny_causal_model

DEFAULTS = {
    "beta": 0.1,
    "precompute_ref_log_probs": False,
    "max_length": None,
    "pad_to_multiple_of": None,
    "disable_dropout": True,
}
DPO = DEFAULTS | {"loss_type": ["sigmoid"], "loss_weights": None, "label_smoothing": 0.0, "use_weighting": False}
KTO = DEFAULTS | {
    "loss_type": "kto",
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
    "train_sampling_strategy": "sequential",
}
KTO_LINES = "rl: kto\nmicro_batch_size: 2\nremove_unused_columns: false\n"


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("", {}),
        ("rl_beta: 0.3\nprecompute_ref_log_probs: true", {"beta": 0.3, "precompute_ref_log_probs": True}),
        ("rl_beta: 0.3\nbeta: 0.2", {"beta": 0.2}),
        ("dpo_beta: 0.4", {"beta": 0.4}),
        ("dpo_loss_type: [ipo]", {"loss_type": ["ipo"]}),
        (
            "dpo_loss_type: [robust, sft]\ndpo_loss_weights: [1, 0.5]\ndpo_label_smoothing: 0.1",
            {"loss_type": ["robust", "sft"], "loss_weights": [1.0, 0.5], "label_smoothing": 0.1},
        ),
        ("dpo_use_weighting: true\npad_to_multiple_of: 64", {"use_weighting": True, "pad_to_multiple_of": 64}),
        ("dpo_use_liger_kernel: true\ndpo_padding_free: true", {}),
    ],
)
def test_dpo(lines: str, changed: dict[str, Any]) -> None:
    assert dpo_options(config_of(f"rl: dpo\n{lines}")) == DPO | changed


def test_ipo_is_a_loss_of_dpo() -> None:
    assert dpo_options(config_of("rl: ipo")) == DPO | {"loss_type": ["ipo"]}


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("", {}),
        ("kto_desirable_weight: 1.5", {"desirable_weight": 1.5}),
        ("kto_undesirable_weight: 0\nrl_beta: 0.2", {"undesirable_weight": 1.0, "beta": 0.2}),
    ],
)
def test_kto(lines: str, changed: dict[str, Any]) -> None:
    assert kto_options(config_of(KTO_LINES + lines)) == KTO | changed


@pytest.mark.parametrize(
    ("lines", "good", "bad", "said"),
    [
        ("", 8, 8, None),
        ("", 8, 6, None),
        ("", 9, 3, "kto_undesirable_weight: 3.00 makes them weigh the same"),
        ("", 3, 9, "kto_desirable_weight: 3.00 makes them weigh the same"),
        ("kto_undesirable_weight: 3", 9, 3, None),
        ("", 4, 0, "all 4 answers are good"),
        ("", 0, 4, "all 4 answers are bad"),
    ],
)
def test_kto_says_when_one_kind_outweighs_the_other(lines: str, good: int, bad: int, said: str | None) -> None:
    found = balance_warning(config_of(KTO_LINES + lines), [True] * good + [False] * bad)
    assert (found is None) == (said is None)
    assert (said or "") in (found or "")


@pytest.mark.parametrize(
    ("lines", "weight"),
    [("", 0.1), ("orpo_alpha: 0.5", 0.5), ("orpo_alpha: 0", 0.0), ("orpo_alpha: 0.5\nrl_beta: 0.2", 0.2)],
)
def test_orpo(lines: str, weight: float) -> None:
    assert orpo_options(config_of(f"rl: orpo\n{lines}")) == {"weight": weight}


@pytest.mark.parametrize(
    ("lines", "changed"),
    [("", {}), ("rl_beta: 2\nsimpo_gamma: 0\ncpo_alpha: 0", {"beta": 2.0, "gamma": 0.0, "alpha": 0.0})],
)
def test_simpo(lines: str, changed: dict[str, Any]) -> None:
    assert simpo_options(config_of(f"rl: simpo\n{lines}")) == {"beta": 0.1, "gamma": 0.5, "alpha": 1.0} | changed


@pytest.mark.parametrize(("rl", "options"), [("dpo", dpo_options), ("kto", kto_options)])
def test_what_trl_would_turn_on_stays_off(rl: str, options: Any, tmp_path: Path) -> None:
    """Its own defaults: gradient checkpointing, bf16, cutting at 1024 tokens, logging every 10 steps."""
    import trl

    lines = KTO_LINES if rl == "kto" else "rl: dpo\n"
    config = config_of(f"{lines}learning_rate: 1e-5\noutput_dir: {tmp_path}\nlogging_steps: 3\nsequence_len: 4096")
    kind = trl.KTOConfig if rl == "kto" else trl.DPOConfig
    made: Any = make_arguments(config, CPU, Schedule(8, 10, 20), kind=kind, options=options(config))
    assert (made.gradient_checkpointing, made.bf16, made.max_length, made.logging_steps) == (False, False, None, 3)
    assert made.report_to == []


def test_liger_keeps_its_layers_and_not_its_losses() -> None:
    class Arguments:
        liger_kernel_config = {"rope": True, "cross_entropy": True, "fused_linear_cross_entropy": True}  # noqa: RUF012

    keep_head_fused(Arguments)
    assert Arguments.liger_kernel_config == {"rope": True, "cross_entropy": False, "fused_linear_cross_entropy": False}


@pytest.mark.parametrize(
    ("lines", "zero"),
    [
        ("adapter: lora", True),
        ("adapter: lora\npeft_init_lora_weights: gaussian", True),
        ("adapter: lora\npeft_init_lora_weights: pissa", False),
        ("adapter: lora\npeft_init_lora_weights: false", False),
        ("adapter: lora\nlora_model_dir: somewhere", False),
    ],
)
def test_adapters_that_start_as_the_base_model(lines: str, zero: bool) -> None:
    assert adapter_starts_at_zero(config_of(f"rl: dpo\n{lines}")) == zero


def test_every_value_of_rl_has_a_method_or_is_refused() -> None:
    assert set(COMPARES_ANSWERS) <= set(METHODS)
    assert not set(UNSUPPORTED_RL) & set(METHODS)
    with pytest.raises(FtlError, match="not yet supported: training with ebft") as caught:
        load_method("ebft")
    assert caught.value.exit_code == 2


def test_evaluating_by_cross_entropy_is_refused() -> None:
    from ftl_runner.evaluate import evaluate

    with pytest.raises(FtlError, match="measures cross-entropy, which is not what orpo trains") as caught:
        evaluate(config_of("rl: orpo"))
    assert caught.value.exit_code == 2


def test_a_model_without_a_body_of_its_own_is_refused() -> None:
    check_head(config_of("rl: dpo"), tiny_causal_model("llama"))
    with pytest.raises(ModelError, match="rl: dpo cannot be used with models of type llama4_text"):
        check_head(config_of("rl: dpo"), tiny_causal_model("llama4_text"))
