"""Families of models: config.json -> shapes. A new one is one function and one line in ``architecture.py``."""
