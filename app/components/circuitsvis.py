"""CircuitsVis' token log-probabilities and attention heads, from the bundle in the installed
package's own wheel.

The package's own renderer points to another host, pastes tokens into a script as they are and
writes them as HTML. So only its JavaScript is used here: the data goes in as escaped JSON, every
token with its HTML characters as entities, into a frame whose policy runs this script alone and
fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from typing import Any

import numpy as np

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ margin: 0; padding: 12px; background: #fff; color: #000; font: 15px/1.9 monospace; }}
table {{ font-size: 13px; line-height: 1.4; margin: auto; }}
/* CircuitsVis writes white on red and orange on blue, which is hard to read. */
#tokens span, tr {{ color: #000 !important; }}
tr {{ background: #fff !important; }}
</style>
</head>
<body>
<div id="tokens"></div>
<script>{bundle}</script>
<script>{drawing}</script>
</body>
</html>"""
# JSON that may stand inside a script element: nothing in it can end the script or its line.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_LOOK_ALIKES = str.maketrans({"<": "‹", ">": "›", "&": "＆", '"': "”", "'": "’"})
# JSON has no infinity; no token of a page is less likely than this.
_LEAST_LOGPROB = -1e4
# Beyond these the frame takes seconds to draw, and longer still under the pointer.
MOST_HEADS, MOST_TOKENS = 12, 64


@dataclass(frozen=True)
class TokenLogProbs:
    """A prompt of T tokens, and what was expected before each but the first.

    Attributes:
        tokens: the T tokens as they are to be read.
        logprobs: log-probability in nats of tokens 1 to T-1, each before it was read.
        ranks: their ranks, from 1.
        guesses: the best guesses at those places, best first.
        guess_logprobs: the guesses' log-probabilities in nats.
    """

    tokens: Sequence[str]
    logprobs: Sequence[float]
    ranks: Sequence[int]
    guesses: Sequence[Sequence[str]]
    guess_logprobs: Sequence[Sequence[float]]


@dataclass(frozen=True)
class AttentionHeads:
    """One layer's attention on T tokens.

    Attributes:
        tokens: the T tokens as they are to be read.
        pattern: [head, destination, source], H of them.
        names: a short name for each head.
    """

    tokens: Sequence[str]
    pattern: np.ndarray[Any, Any]
    names: Sequence[str]


def token_log_probs_html(data: TokenLogProbs) -> str:
    """A whole page that shows the tokens coloured, and the best guesses under the pointer.

    Raises PackageNotFoundError where circuitsvis is not installed.
    """
    # CircuitsVis counts ranks from 0 and sets every token of this view as HTML.
    props = {
        "prompt": [html.escape(token) for token in data.tokens],
        "topKLogProbs": [[_finite(p) for p in place] for place in data.guess_logprobs],
        "topKTokens": [[html.escape(token) for token in place] for place in data.guesses],
        "correctTokenRank": [rank - 1 for rank in data.ranks],
        "correctTokenLogProb": [_finite(p) for p in data.logprobs],
    }
    return _page("Token log-probabilities", "TokenLogProbs", props)


def attention_heads_html(data: AttentionHeads) -> str:
    """A whole page that shows a layer's heads; one is large, with the tokens under the pointer.

    Raises:
        ValueError: more heads or tokens than CircuitsVis draws in good time, or shapes that do not
            fit each other.
        PackageNotFoundError: circuitsvis is not installed.
    """
    n_heads, n_tokens = len(data.pattern), len(data.tokens)
    if n_heads > MOST_HEADS or n_tokens > MOST_TOKENS:
        raise ValueError(f"At most {MOST_HEADS} heads and {MOST_TOKENS} tokens can be drawn.")
    if np.shape(data.pattern) != (n_heads, n_tokens, n_tokens) or len(data.names) != n_heads:
        raise ValueError("Patterns are [heads, tokens, tokens], with a name for each head.")
    # CircuitsVis sets a token as HTML in one place and as text in another: no entity reads well in
    # both, so what could be markup is replaced by what looks alike.
    props = {
        "tokens": [token.translate(_LOOK_ALIKES) for token in data.tokens],
        "attention": np.round(np.nan_to_num(np.asarray(data.pattern, float)), 4).tolist(),
        "attentionHeadNames": [name.translate(_LOOK_ALIKES) for name in data.names],
        "maxValue": 1,
        "minValue": -1,
        "maskUpperTri": True,
    }
    return _page("Attention heads", "AttentionHeads", props)


def _page(title: str, component: str, props: dict[str, object]) -> str:
    drawing = f'CircuitsVis.render("tokens", CircuitsVis.{component}, {_inline_json(props)});'
    # Scripts are allowed by hash, so that the same data give the same page and no redraw.
    hashes = f"{_hash(_bundle())} {_hash(drawing)}"
    return _PAGE.format(title=title, hashes=hashes, bundle=_bundle(), drawing=drawing)


def _hash(script: str) -> str:
    """A script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _inline_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_ESCAPES)


def _finite(value: float) -> float:
    return round(max(value, _LEAST_LOGPROB), 4) if math.isfinite(value) else _LEAST_LOGPROB


@cache
def _bundle() -> str:
    path = distribution("circuitsvis").locate_file("circuitsvis/dist/cdn/iife.js")
    with open(str(path), encoding="utf-8") as file:
        source = file.read()
    # One string of React's holds an end tag; a backslash keeps its value and not its effect. The
    # last line names a source map, which a browser's tools would ask this server for.
    code = source.replace("</script", "<\\/script")
    return code.partition("\n//# sourceMappingURL=")[0]
