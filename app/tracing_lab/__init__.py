"""The tracing lab: a fact's subject is corrupted, one state is restored, and the answer returns."""
