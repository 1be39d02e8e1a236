"""The patching lab: two prompts, one activation moved from one run into the other, the answer."""
