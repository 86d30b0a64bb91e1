"""The headline: `ftl launch` fine-tunes a real model through Ray Train, DeepSpeed ZeRO-2 and S3, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import torch

from tests.e2e.ftl_cli import Ftl, losses, read_events, read_metrics, write_config
from tests.services.s3 import ROOT, S3_CREDENTIALS, S3Server

pytestmark = pytest.mark.slow
DATA = ROOT / "templates/examples/data/answer_why_try.jsonl"
HELD_OUT = DATA.with_name("answer_why_try_heldout.jsonl")


@dataclass(frozen=True)
class FinishedRun:
    ftl: Ftl
    config: Path
    output_dir: Path
    stdout: str


@pytest.fixture(scope="module")
def run(smollm2: Path, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """SmolLM2-135M, LoRA, 10 steps on two workers."""
    folder = tmp_path_factory.mktemp("full-path")
    held_out = folder / "held_out.jsonl"
    held_out.write_text("\n".join(HELD_OUT.read_text().splitlines()[:8]) + "\n")
    settings = {
        "base_model": str(smollm2),
        "adapter": "lora",
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_target_linear": True,
        "datasets": [{"path": str(DATA), "type": "chat_template", "field_messages": "messages"}],
        "test_datasets": [{"path": str(held_out), "type": "chat_template", "split": "train"}],
        "dataset_prepared_path": str(folder / "prepared"),
        "sequence_len": 512,
        "output_dir": str(folder / "out"),
        "max_steps": 10,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 3e-3,
        "optimizer": "adamw_torch",
        "warmup_steps": 1,
        "save_steps": 5,
        "eval_steps": 10,
        "logging_steps": 1,
        "deepspeed": "zero2",
        "ray_num_workers": 2,
        "generate_samples": True,
        "num_generation_samples": 1,
        "generation_max_new_tokens": 24,
        "generation_do_sample": False,
        "checkpoint": f"s3://{s3_server.bucket}/full-path",
    }
    config = write_config(folder / "config.yml", settings)
    ftl = Ftl(folder / "home", folder, s3_server.environment)
    result = ftl.run("launch", str(config), "--name", "headline")
    return FinishedRun(ftl, config, folder / "out", result.stdout + result.stderr)


def test_loss_falls(run: FinishedRun) -> None:
    by_step = losses(run.output_dir)
    assert sorted(by_step) == list(range(1, 11))
    first, last = (by_step[1] + by_step[2]) / 2, (by_step[9] + by_step[10]) / 2
    assert last < first - 0.3


def test_two_workers_trained_under_zero2(run: FinishedRun) -> None:
    start = read_events(run.output_dir, "train_start")[0]
    assert start["world_size"] == 2
    assert 0 < start["trainable_params"] < start["total_params"] / 10
    shards = sorted(path.name for path in (run.output_dir / "checkpoint-10/global_step10").iterdir())
    assert sum("zero_pp_rank" in name and "optim_states" in name for name in shards) == 2


def test_record_tells_the_whole_run(run: FinishedRun) -> None:
    record = run.ftl.status("headline")
    assert record["state"] == "succeeded"
    assert record["backend"] == "local"
    assert record["checkpoint_uri"].endswith("/full-path/headline")
    assert len(record["config_digest"]) == 64
    assert record["metrics"]["step"] == 10
    assert record["ended_at"] > record["created_at"]


def test_checkpoints_and_result_are_in_s3(run: FinishedRun, s3: S3Server) -> None:
    client = boto3.client("s3")
    listing = client.list_objects_v2(Bucket=s3.bucket, Prefix="full-path/headline/")["Contents"]
    keys = {item["Key"].removeprefix("full-path/headline/") for item in listing}
    assert {"checkpoint-5/ftl_manifest.json", "checkpoint-10/ftl_manifest.json", "attempts/1.json"} <= keys
    assert "final/adapter_model.safetensors" in keys
    stored = client.get_object(Bucket=s3.bucket, Key="full-path/headline/final/adapter_model.safetensors")[
        "Body"
    ].read()
    assert stored == (run.output_dir / "adapter_model.safetensors").read_bytes()


def test_adapter_reloads_and_gives_the_same_logits(run: FinishedRun, smollm2: Path) -> None:
    """The saved adapter against the one inside the last DeepSpeed checkpoint: same logits, and not the base's."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.output_dir)
    inputs = tokenizer("Why do ships float?", return_tensors="pt")

    def logits(folder: Path | None) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
        if folder is not None:
            model = PeftModel.from_pretrained(model, folder)
        with torch.no_grad():
            return model.eval()(**inputs).logits

    saved = logits(run.output_dir)
    assert torch.equal(saved, logits(run.output_dir / "checkpoint-10"))
    assert (saved - logits(None)).abs().max() > 0.1


def test_evaluate_agrees_with_training(run: FinishedRun) -> None:
    """`ftl evaluate` reloads the adapter in one process and finds the loss that two workers saw at the end."""
    figures = json.loads(run.ftl.run("evaluate", str(run.config)).stdout.strip().splitlines()[-1])
    in_training = read_events(run.output_dir, "eval")[-1]["eval_loss"]
    assert figures["num_rows"] == 8
    assert figures["eval_loss"] == pytest.approx(in_training, rel=2e-2)


def test_inference_gives_the_sampled_answer_again(run: FinishedRun) -> None:
    sample = read_metrics(run.output_dir)["samples"][0]
    assert sample["tuned"] != sample["base"]
    question = json.loads(HELD_OUT.read_text().splitlines()[0])["messages"][-2]["content"]
    assert sample["prompt"] == question
    answer = run.ftl.run("inference", str(run.config), "--max-new-tokens", "24", stdin=question).stdout.strip()
    assert answer.endswith(sample["tuned"])


def test_merged_model_gives_the_adapters_logits(run: FinishedRun, smollm2: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run.ftl.run("merge-lora", str(run.config))
    inputs = AutoTokenizer.from_pretrained(run.output_dir)("Name three rivers.", return_tensors="pt")
    base = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(run.output_dir / "merged", dtype=torch.float32)
    with torch.no_grad():
        expected = PeftModel.from_pretrained(base, run.output_dir).eval()(**inputs).logits
        actual = merged.eval()(**inputs).logits
    assert torch.allclose(actual, expected, atol=2e-4)


def test_metrics_and_plot_are_written(run: FinishedRun) -> None:
    metrics = read_metrics(run.output_dir)
    assert metrics["steps"] == 10
    assert metrics["tokens_per_s"] > 0
    assert list(metrics["startup_s"]) == [
        "ray",
        "imports",
        "preflight",
        "data",
        "model",
        "engine",
        "first_step",
        "other",
    ]
    assert all(seconds >= 0 for seconds in metrics["startup_s"].values())
    assert metrics["data"]["rows_read"] >= 500
    plot = (run.output_dir / "loss.png").read_bytes()
    assert plot.startswith(b"\x89PNG")
    assert len(plot) > 5000


def test_output_shows_progress_samples_and_summary(run: FinishedRun) -> None:
    assert "10/10" in run.stdout
    for wanted in ("loss", "tok/s", "eta", "checkpoint", "succeeded", "metrics.json", "loss.png"):
        assert wanted in run.stdout
    assert "::ftl::" not in run.stdout


def test_logs_can_be_read_afterwards(run: FinishedRun) -> None:
    text = run.ftl.run("logs", "headline").stdout
    assert "10/10" in text
    assert "::ftl::" in run.ftl.run("logs", "headline", "--raw").stdout


def test_secrets_stand_nowhere(run: FinishedRun) -> None:
    """Every file that the run left, and everything it printed."""
    secret, key_id = S3_CREDENTIALS["AWS_SECRET_ACCESS_KEY"], S3_CREDENTIALS["AWS_ACCESS_KEY_ID"]
    assert secret not in run.stdout
    assert key_id not in run.stdout
    files = [path for root in (run.ftl.home, run.output_dir) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 10
    leaks = [path for path in files if secret.encode() in path.read_bytes() or key_id.encode() in path.read_bytes()]
    assert leaks == []
