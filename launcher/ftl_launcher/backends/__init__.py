"""Backends: who starts the runner. One file each, one line in registry.py."""
