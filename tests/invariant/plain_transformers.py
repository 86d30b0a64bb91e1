"""LoRA training as one writes it with transformers and PEFT alone; a script: SETTINGS (JSON) FOLDER.

Nothing of ftl is imported: template, mask, order, loss and schedule are the libraries' own. Prints the losses.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
    set_seed,
)


def encode(tokenizer: Any, messages: list[dict[str, str]], longest: int) -> dict[str, Any] | None:
    """A conversation in which the assistant's turns are trained, up to and with the token that ends them."""
    ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    labels = [-100] * len(ids)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:index], add_generation_prompt=True, return_dict=True)
        start = len(before["input_ids"])
        end = ids.index(tokenizer.eos_token_id, start) + 1
        labels[start:end] = ids[start:end]
    return {"input_ids": ids, "labels": labels} if len(ids) <= longest else None


def main() -> None:
    keys, folder = json.loads(sys.argv[1]), sys.argv[2]
    tokenizer = AutoTokenizer.from_pretrained(keys["base_model"])
    with open(keys["datasets"][0]["path"]) as file:
        conversations = [json.loads(line)["messages"] for line in file]
    rows = [row for messages in conversations if (row := encode(tokenizer, messages, keys["sequence_len"]))]

    set_seed(keys["seed"])
    model = AutoModelForCausalLM.from_pretrained(keys["base_model"], dtype=torch.float32)
    model = get_peft_model(
        model,
        LoraConfig(
            r=keys["lora_r"],
            lora_alpha=keys["lora_alpha"],
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=keys["micro_batch_size"],
        gradient_accumulation_steps=keys["gradient_accumulation_steps"],
        max_steps=keys["max_steps"],
        learning_rate=keys["learning_rate"],
        lr_scheduler_type=keys["lr_scheduler"],
        warmup_steps=keys["warmup_steps"],
        weight_decay=keys["weight_decay"],
        max_grad_norm=keys["max_grad_norm"],
        optim=keys["optimizer"],
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        seed=keys["seed"],
    )
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    trainer.train()
    print(json.dumps([row["loss"] for row in trainer.state.log_history if "loss" in row]))


if __name__ == "__main__":
    main()
