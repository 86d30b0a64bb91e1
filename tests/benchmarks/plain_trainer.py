"""The peer of runner_overhead: a plain transformers Trainer script doing the same steps."""

from __future__ import annotations

import json
import sys
import time

STARTED = time.time()


def main() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    settings, folder = json.loads(sys.argv[1]), sys.argv[2]
    tokenizer = AutoTokenizer.from_pretrained(settings["base_model"])
    with open(settings["datasets"][0]["path"]) as file:
        conversations = [json.loads(line)["messages"] for line in file]
    rows = [tokenizer.apply_chat_template(c, return_dict=True)["input_ids"] for c in conversations]

    def collate(batch: list[list[int]]) -> dict[str, torch.Tensor]:
        width = max(map(len, batch))
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        labels = torch.full((len(batch), width), -100)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = labels[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    model = AutoModelForCausalLM.from_pretrained(settings["base_model"], dtype=torch.float32)
    model.config.use_cache = False
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=settings["micro_batch_size"],
        max_steps=settings["max_steps"],
        learning_rate=settings["learning_rate"],
        optim=settings["optimizer"],
        lr_scheduler_type="cosine",
        logging_steps=1,
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
        seed=42,
        data_seed=42,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    started = time.monotonic()
    trainer.train()
    train_s = time.monotonic() - started
    trainer.save_model(folder)
    tokenizer.save_pretrained(folder)
    print(json.dumps({"train_s": train_s, "total_s": time.time() - STARTED}))


if __name__ == "__main__":
    main()
