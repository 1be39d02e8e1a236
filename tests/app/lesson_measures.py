"""Measures that the tests' lesson uses."""

from app.lesson.measures import measure, measures

_LONGEST = 100


def _count(model, prompt):
    return int(model.to_tokens(prompt).shape[1])


@measure("demo_n_tokens")
def demo_n_tokens(model, settings):
    """How many tokens the prompt has."""
    return min(_count(model, settings["prompt"]), _LONGEST)


@measure("demo_letters")
def demo_letters(model, settings):
    """How many letters the prompt has."""
    return len(settings["prompt"])


@measure("demo_length")
def demo_length(model, settings, *, text: str):
    """How long a text is."""
    return len(text)


@measure("demo_first_hit")
def demo_first_hit(model, settings, *, position: int = -1):
    """First hit of the prompt's answer."""
    from lens_core.lens import read_lens

    return read_lens(model, settings["prompt"], site=settings["site"]).first_hit(position)


def registered():
    """Every measure, these among them."""
    return measures()
