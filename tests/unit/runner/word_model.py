"""A random model that knows twelve words, and rewards for what it says."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "good", "bad"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "user", "assistant", "system", "\n"]
REWARDS = '''\
def good_words(completions, **columns):
    """The share of an answer's words that are "good"."""
    texts = [completion[0]["content"].split() for completion in completions]
    return [text.count("good") / max(1, len(text)) for text in texts]


def as_wished(completions, wish, **columns):
    """1 for an answer that has the word that its row names."""
    return [float(word in completion[0]["content"]) for completion, word in zip(completions, wish)]


def broken(completions, **columns):
    raise KeyError("answer")


def too_few(completions, **columns):
    return [1.0]
'''


def write_word_model(folder: Path) -> Path:
    """A Llama of one layer that trains in a hundredth of a second a step."""
    words = Tokenizer(WordLevel({word: number for number, word in enumerate([*SPECIAL, *WORDS])}, unk_token="\n"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<|im_end|>", eos_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 1, "eos_token_id": 1, "bos_token_id": None}
    LlamaForCausalLM(LlamaConfig(**sizes, **tokens)).save_pretrained(folder)
    return folder
