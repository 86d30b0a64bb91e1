"""``ftl inference``: ask the tuned model, one prompt from standard input or a conversation at the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_runner.models.adapter import load_adapter
from ftl_runner.models.heads import head_of
from ftl_runner.models.loader import load_base_model
from ftl_runner.models.precision import choose_precision
from ftl_runner.models.tokenizer import load_tokenizer
from ftl_runner.samples import generate

if TYPE_CHECKING:
    from ftl_config import Config


def adapter_dir(config: Config) -> Path | None:
    """Where the trained adapter is: ``lora_model_dir``, else ``output_dir``; None for full fine-tuning.

    Raises:
        FtlError: the configuration has an adapter and there is none at that place.
    """
    if config.adapter.adapter is None:
        return None
    folder = Path(config.adapter.lora_model_dir or config.checkpointing.output_dir).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise FtlError(f"no adapter in {folder}", "train first, or name its folder with --lora-model-dir", exit_code=2)
    return folder


def load_for_inference(config: Config) -> tuple[Any, Any]:
    """The tuned model in eval mode on the device, and its tokenizer."""
    import torch

    precision = choose_precision(config)
    tokenizer = load_tokenizer(config)
    model: Any = load_base_model(config, tokenizer, precision)
    folder = adapter_dir(config)
    if folder is not None:
        model = load_adapter(model, config, folder)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def run_inference(config: Config, *, chat: bool, max_new_tokens: int, show_prompt: bool = False) -> None:
    """Answer one prompt read from standard input, or hold a conversation until an empty line or end of file.

    Raises:
        FtlError: the model judges and writes nothing, or there is no adapter where the configuration has one.
    """
    if head_of(config) is not None:
        raise FtlError("a reward model scores text and writes none", "docs/reward-and-rl.md shows how to ask it", 2)
    model, tokenizer = load_for_inference(config)
    messages: list[dict[str, str]] = []
    while True:
        prompt = _read_prompt(chat)
        if not prompt:
            return
        messages = [*messages, {"role": "user", "content": prompt}]
        text = _render(config, tokenizer, messages)
        if show_prompt:
            sys.stderr.write(f"prompt: {json.dumps(text, ensure_ascii=False)}\n")
        answer = generate(model, tokenizer, text, max_new_tokens)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
        if not chat:
            return
        messages.append({"role": "assistant", "content": answer})


def _render(config: Config, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    from ftl_runner.data import render_prompt

    return str(render_prompt(config, tokenizer, messages))


def _read_prompt(chat: bool) -> str:
    if not chat:
        if sys.stdin.isatty():
            sys.stderr.write("prompt (end with Ctrl-D):\n")
        return sys.stdin.read().strip()
    try:
        return input("you> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
