"""Typed sections of the config."""
