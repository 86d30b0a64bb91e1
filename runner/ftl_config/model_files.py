"""What a model directory holds: the launcher looks for these files before a run, the runner when it loads."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "spiece.model",
    "vocab.txt",
)
"""Any of these is a tokenizer."""
