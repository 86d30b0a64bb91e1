"""The whole way: from text to a Config, with all that is known about it."""

from __future__ import annotations

import pickle

import pytest

from ftl_config import Config, ConfigError, FtlError, describe, load_text
from tests.unit.config.configs import BASE, errors_of, load, problems_of


def test_problems_of_all_stages_come_together_in_the_order_of_the_file() -> None:
    text = BASE + "seed: 1\nseed: 2\nfoo: 1\nbf16: 7\nfp8: true\nwarmup_steps: 1\nwarmup_ratio: 0.1\n"
    found = [(problem.key, problem.line) for problem in errors_of(text, "--bar", partial=False)]
    assert found == [("", None), ("seed", 9), ("foo", 10), ("bf16", 11), ("fp8", 12), ("warmup_steps", 13)]


def test_report_reads_well() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("lerning_rate: 1\nnum_epochs: many\n", name="my.yml", partial=True)
    assert str(caught.value) == (
        "my.yml:1:1: error: lerning_rate: unknown key\n"
        "    did you mean `learning_rate`?\n"
        "my.yml:2:1: error: num_epochs: expected a number above 0, got the text 'many'\n"
        "2 errors in the config"
    )
    assert caught.value.exit_code == 2


def test_errors_survive_pickling() -> None:
    error = ConfigError(errors_of("foo: 1"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems, again.exit_code) == (str(error), error.problems, 2)
    plain = pickle.loads(pickle.dumps(FtlError("a", "b", 3)))
    assert (plain.message, plain.hint, plain.exit_code) == ("a", "b", 3)


def test_config_survives_pickling() -> None:
    config = load(BASE + "special_tokens: {pad_token: x}\nlaunch: {nodes: 2}\n").config
    assert pickle.loads(pickle.dumps(config)) == config


def test_missing_keys_are_placed_in_the_file_without_a_line() -> None:
    problem = next(problem for problem in errors_of("seed: 1\n", partial=False) if problem.key == "base_model")
    assert (problem.file, problem.line) == ("config.yml", None)


def test_digest_is_about_values_alone() -> None:
    digest = load(BASE).digest
    lines = BASE.splitlines()
    reordered = "\n".join([*lines[4:], *lines[:4]]) + "\n# a comment\n"
    assert load(reordered).digest == digest
    assert load(BASE + "launch: {nodes: 4, cloud: aws}\n").digest == digest
    assert load(BASE.replace("1e-4", "0.0001")).digest == digest
    assert load(BASE + "wandb_project:\n").digest == digest
    assert load(BASE + "num_epochs: 1\n").digest == load(BASE + "num_epochs: 1.0\n").digest
    assert (
        load(BASE + "flash_attention: true\n").digest == load(BASE + "attn_implementation: flash_attention_2\n").digest
    )
    assert load(BASE, "--learning-rate", "2e-4").digest != digest
    assert load(BASE + "seed: 1\n").digest != digest
    assert load(BASE + "checkpoint: s3://bucket\n").digest != digest
    assert len(digest) == 64


def test_to_yaml_is_flat_and_current() -> None:
    loaded = load(BASE + "flash_attention: true\nadam_eps: 1e-6\nwandb_project:\nlaunch:\n  nodes: 2\n", "--seed", "7")
    assert loaded.to_yaml() == (
        "base_model: some/model\n"
        "attn_implementation: flash_attention_2\n"
        "datasets:\n"
        "- path: data.jsonl\n"
        "  type: chat_template\n"
        "micro_batch_size: 1\n"
        "gradient_accumulation_steps: 1\n"
        "seed: 7\n"
        "learning_rate: 0.0001\n"
        "adam_epsilon: 1.0e-06\n"
        "launch:\n"
        "  nodes: 2\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "2e-4",
        "1:30",
        "007",
        "null",
        "~",
        "",
        "a: b",
        "# x",
        "x\ny\n",
        " x ",
        "é",
        "- a",
        "{a}",
        "yes",
        "0x1F",
        "*a",
        "'",
        '"',
    ],
)
def test_texts_survive_the_round_trip(text: str) -> None:
    import yaml

    source = yaml.safe_dump({"default_system_message": text, "chat_template_kwargs": {"x": text, "y": [text]}})
    first = load(source.replace(": 2e-4", ": '2e-4'").replace("- 2e-4", "- '2e-4'"))
    again = load(first.to_yaml())
    assert again.config == first.config
    assert again.config.data.chat_template_kwargs == {"x": text, "y": [text]}


def test_describe_shows_values_with_their_origin() -> None:
    loaded = load(BASE + "launch: {nodes: 2}\nlora_mlp_kernel: true\n", "--seed", "3")
    rows = {row.key: row for row in describe(loaded)}
    assert (rows["seed"].value, str(rows["seed"].origin)) == (3, "--seed")
    assert (rows["learning_rate"].value, str(rows["learning_rate"].origin)) == (1e-4, "config.yml:5")
    assert (rows["num_epochs"].value, str(rows["num_epochs"].origin)) == (1.0, "default")
    assert (rows["launch.nodes"].value, str(rows["launch.nodes"].origin)) == (2, "config.yml:8")
    assert "lora_mlp_kernel" in rows, "it was set"
    assert "liger_rope" in rows
    assert "fp8" not in rows, "neither set nor implemented"


def test_empty_partial_config_is_all_defaults() -> None:
    loaded = load("{}")
    assert isinstance(loaded.config, Config)
    assert loaded.to_yaml() == "{}\n"
    assert {origin.kind for origin in loaded.origins.values()} == {"default"}


@pytest.mark.parametrize(
    ("text", "yaml", "warned"),
    [
        ("sdp_attention: true", "attn_implementation: sdpa", ["sdp_attention"]),
        ("flex_attention: true", "attn_implementation: flex_attention", ["flex_attention"]),
        ("eager_attention: true\nflash_attention: false", "attn_implementation: eager", ["eager_attention"]),
        ("attn_implementation: xformers", "attn_implementation: sdpa", ["attn_implementation"]),
        ("xformers_attention: true", "attn_implementation: sdpa", ["xformers_attention", "attn_implementation"]),
        ("revision_of_model: main", "model_revision: main", ["revision_of_model"]),
        ("type_of_model: X", "model_type: X", ["type_of_model"]),
        ("dataset_processes: 4", "dataset_num_proc: 4", ["dataset_processes"]),
        ("noisy_embedding_alpha: 5", "neftune_noise_alpha: 5.0", ["noisy_embedding_alpha"]),
        ("evaluation_strategy: no", "eval_strategy: \"no\"", ["evaluation_strategy"]),
        ("liger_swiglu: true", "liger_glu_activation: true", ["liger_swiglu"]),
        ("rope_scaling: {type: linear}", "model_config:\n  rope_scaling:\n    type: linear", ["rope_scaling"]),
        ("gc_steps: 5", "gc_collect_steps: 5\ntorch_empty_cache_steps: 5", ["gc_steps", ""]),
        ("gc_steps: -1", "gc_collect_steps: -1", ["gc_steps", ""]),
        (
            "fsdp_final_state_dict_type: FULL_STATE_DICT\nfsdp_version: 2",
            "fsdp_version: 2\nfsdp_config:\n  final_state_dict_type: FULL_STATE_DICT",
            ["fsdp_final_state_dict_type"],
        ),
        (
            "fsdp_config: {fsdp_version: 2, fsdp_offload_params: true}",
            "fsdp_version: 2\nfsdp_config:\n  offload_params: true",
            [],
        ),
        (
            "fsdp_config: {sharding_strategy: SHARD_GRAD_OP}",
            "fsdp_version: 2\nfsdp_config:\n  reshard_after_forward: false",
            ["fsdp_config", "fsdp_config.sharding_strategy"],
        ),
        ("datasets: {path: x}", "datasets:\n- path: x", ["datasets"]),
        (
            "datasets: [{path: x, message_field_role: from}]",
            "datasets:\n- path: x\n  message_property_mappings:\n    role: from",
            ["datasets[0].message_field_role"],
        ),
        ("flash_attention:", "{}", []),
        ("warmup:", "{}", []),
    ],
)  # fmt: skip
def test_old_spellings(text: str, yaml: str, warned: list[str]) -> None:
    loaded = load(text)
    assert loaded.to_yaml() == yaml + "\n"
    assert [warning.key for warning in loaded.warnings] == warned


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("flash_attention: true\nattn_implementation: sdpa", "flash_attention", "both are set"),
        ("flash_attention: 7", "flash_attention", "expected true or false"),
        ("adam_eps: 1e-6\nadam_epsilon: 1e-8", "adam_eps", "both are set"),
        ("rope_scaling: {a: 1}\nmodel_config: {rope_scaling: {a: 2}}", "rope_scaling", "stands in model_config too"),
        ("fsdp_config: {fsdp_offload_params: true, offload_params: true}", "fsdp_config.fsdp_offload_params", "both"),
        ("fsdp_version: 3", "fsdp_version", "expected 1 or 2"),
        (
            "datasets: [{path: x, message_field_role: a, message_property_mappings: {role: b}}]",
            "datasets[0].message_field_role",
            "disagrees with",
        ),
    ],
)
def test_old_spellings_that_contradict(text: str, key: str, message: str) -> None:
    problem = next(problem for problem in errors_of(text) if problem.key == key)
    assert message in problem.message


def test_two_attention_flags_name_the_one_that_counts() -> None:
    keys = [problem.key for problem in problems_of("flash_attention: true\nsdp_attention: true\n")]
    assert keys == ["flash_attention", "sdp_attention"]
    assert load("flash_attention: true\nsdp_attention: true\n").config.model.attn_implementation == "flash_attention_2"


def test_statuses_can_be_left_out() -> None:
    config = load_text(BASE + "rl: dpo\nqat: {weight_dtype: int4}\n", statuses=False).config
    assert config.preference.rl == "dpo"
    assert config.quantization.qat is not None
