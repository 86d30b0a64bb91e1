"""Run by TRL's own Python: LoRA by SFTTrainer on chats, with the settings of train_speed.py."""

from __future__ import annotations

import json
import sys


def main() -> None:
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    keys = json.loads(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(keys["model"], dtype="float32")
    arguments = SFTConfig(
        output_dir=keys["output_dir"],
        max_length=keys["sequence_len"],
        packing=keys["packed"],
        per_device_train_batch_size=keys["micro_batch_size"],
        max_steps=keys["max_steps"],
        num_train_epochs=1,
        learning_rate=keys["learning_rate"],
        optim="adamw_torch",
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=load_dataset("json", data_files=keys["data"], split="train"),
        processing_class=AutoTokenizer.from_pretrained(keys["model"]),
        peft_config=LoraConfig(
            r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
