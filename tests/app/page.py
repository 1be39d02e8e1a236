"""What the tests of every lab ask of a page that is run in process."""

import json
import time
from typing import Any

from streamlit.testing.v1 import AppTest


def settled(at: AppTest) -> AppTest:
    """The page once its work is done, which it waits for in another thread."""
    for _ in range(200):
        if not at.get("progress"):
            return at
        time.sleep(0.2)
        at.run()
    raise AssertionError("the page never comes to an end")


def maps(at: AppTest) -> list[Any]:
    """The data of the maps, in the order of the page."""
    return [json.loads(element.proto.json) for element in at.get("bidi_component")]


def assert_unbroken(at: AppTest) -> None:
    """Nothing went wrong, and no text from the address is markup."""
    assert not at.exception
    assert not [e for e in at.error if "Something went wrong" in e.value]
    for element in [*at.markdown, *at.caption, *at.error, *at.warning, *at.info]:
        assert "<img" not in element.value.replace("\\<", "")
