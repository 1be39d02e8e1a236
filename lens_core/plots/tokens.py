"""Tokens as a reader can tell them apart: spaces and line ends are shown, markup is inert."""

import html

_SIGNS = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "⇥", "\N{NO-BREAK SPACE}": "⍽"})


def visible(token: str) -> str:
    """Show the whitespace of a token: `` Paris`` is ``·Paris``, a line end ``⏎``, nothing ``∅``.

    Only spaces at the edges are marked; one inside a text is visible between its neighbours.
    """
    if not token:
        return "∅"
    body = token.strip(" ")
    start = len(token) - len(token.lstrip(" "))
    end = len(token) - len(token.rstrip(" ")) if body else 0
    return "·" * start + body.translate(_SIGNS) + "·" * end


def plotly_text(token: str) -> str:
    """The visible token with plotly's small set of HTML tags made inert."""
    return html.escape(visible(token), quote=False)
