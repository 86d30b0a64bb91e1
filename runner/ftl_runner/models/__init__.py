"""Tokenizer, model, quantization, attention and adapter: configuration into loaded objects."""
