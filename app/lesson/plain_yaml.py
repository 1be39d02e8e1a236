"""YAML in which ``yes``, ``no``, ``on`` and ``off`` are words, and only true and false are not."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    if letter in "yYnNoO"
    else resolvers
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(text: str) -> Any:
    """The text as plain data. Raises ``yaml.YAMLError``."""
    return yaml.load(text, _Loader)
