"""Configs, plans and records for tests of the launcher."""

from __future__ import annotations

import dataclasses
from typing import Any

from ftl_config import LoadedConfig
from ftl_config.load import load_text
from ftl_launcher.plan import HostFacts, RunPlan, make_plan
from ftl_launcher.records import RunRecord, new_record

CONFIG = """\
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
datasets:
  - path: org/chats
    type: chat_template
sequence_len: 512
micro_batch_size: 1
gradient_accumulation_steps: 2
num_epochs: 1
learning_rate: 2e-4
optimizer: adamw_torch
lr_scheduler: cosine
output_dir: ./out
"""

HOST = HostFacts(workdir="/home/me/project", num_gpus=0)


def load(*flags: str, text: str = CONFIG) -> LoadedConfig:
    """The config of these tests with a few overrides."""
    return load_text(text, list(flags), name="config.yml")


def plan_of(*flags: str, name: str = "run-1", host: HostFacts = HOST) -> RunPlan:
    """The plan that a few overrides lead to."""
    return make_plan(load(*flags), name, host, ftl_version="1.2.3")


def record_of(plan: RunPlan, **changes: Any) -> RunRecord:
    """A record of a plan as it is right before submission."""
    record = new_record(
        name=plan.name,
        backend=plan.backend,
        handle=f"local://{plan.name}/{plan.submission_id}",
        config_digest=plan.config_digest,
        config_yaml=plan.config_yaml,
        plan=plan.to_json(),
        checkpoint_uri=plan.checkpoint_uri,
        submitter="1:1",
    )
    return dataclasses.replace(record, **changes)
