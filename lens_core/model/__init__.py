"""Hooked models: load, run, read and edit decoder-only language models."""
