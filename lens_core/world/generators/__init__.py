"""Document generators: each takes a ``random.Random`` and returns one document as text."""
