"""Patching: put an activation of one run into another, and see what the answer does."""
