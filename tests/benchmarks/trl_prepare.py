"""Run by TRL's own Python: a trainer for MODEL on DATA, up to where it has tokenized and packed its data."""

from __future__ import annotations

import sys
import tempfile


def main() -> None:
    from datasets import load_dataset
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model, data, length, processes = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_length=int(length),
            packing=True,
            dataset_num_proc=int(processes),
            report_to="none",
            use_cpu=True,
            bf16=False,
        )
        config = AutoConfig.from_pretrained(model, num_hidden_layers=1)  # TRL wants a model; a layer of it will do
        SFTTrainer(
            model=AutoModelForCausalLM.from_config(config),
            args=arguments,
            train_dataset=load_dataset("json", data_files=data, split="train"),
            processing_class=AutoTokenizer.from_pretrained(model),
        )


if __name__ == "__main__":
    main()
