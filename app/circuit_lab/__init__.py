"""The circuit lab: heads are kept by hand, all others knocked out, and the rest is scored."""
