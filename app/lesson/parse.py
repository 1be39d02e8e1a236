"""From a lesson's file to a Lesson; whatever is malformed raises LessonError."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.front_matter import front_matter_plugin

from app.lesson import directives, glossary, plain_yaml
from app.lesson.fields import Fields
from app.lesson.format import Block, Hint, Lesson, LessonError, Measured, Mislead, Step, Text
from app.lesson.measures import Measure

FOLDER = Path(__file__).resolve().parent.parent.parent / "content" / "lessons"
_INFO = re.compile(r"^\{([^}]*)\}\s*(.*)$")
_ID = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
_NO_HTML = "there is raw HTML; write Markdown"
_NEED_ID = ("predict", "see", "check")
_NEED_LABEL = ("try", "hint", "mislead")
_FRONT: dict[str, type] = {
    "title": str,
    "question": str,
    "minutes": int,
    "difficulty": int,
    "before": list,
    "sources": list,
    "settings": dict,
}


def load_lesson(
    name: str, folder: Path = FOLDER, measures: Mapping[str, Measure] | None = None
) -> Lesson:
    """Read ``<name>.md``; with ``measures`` given, the lesson may use no other ones."""
    path = folder / f"{name}.md"
    lesson = _parsed(path.read_text(encoding="utf-8"), str(path))
    if measures is not None:
        _check_measures(lesson, str(path), measures)
    return lesson


def lesson_names(folder: Path = FOLDER) -> list[str]:
    """The lessons that are there, by file name."""
    return sorted(path.stem for path in folder.glob("*.md") if path.stem != "README")


# A page asks for its lesson on every run, and the overview for all of them; one takes 0.1 s.
@lru_cache(maxsize=64)
def _parsed(text: str, file: str) -> Lesson:
    return parse_lesson(text, file)


def parse_lesson(text: str, file: str, measures: Mapping[str, Measure] | None = None) -> Lesson:
    """The lesson that ``text`` is. Raises LessonError with ``file``, line and reason."""
    markdown = MarkdownIt("commonmark").use(front_matter_plugin).use(colon_fence_plugin)
    parsed = markdown.parse(text)
    tokens = [token for token in parsed if token.level == 0 and token.map]
    if not tokens or tokens[0].type != "front_matter":
        raise LessonError(file, 1, "it must begin with front matter between two lines of ---")
    front = _front(tokens[0].content, file)
    for line in _html_lines(parsed):
        raise LessonError(file, line, _NO_HTML)
    reader = _Reader(text.splitlines(), file, front["settings"])
    for token in tokens[1:]:
        reader.read(token)
    lesson = reader.lesson(Path(file).stem, front)
    if measures is not None:
        _check_measures(lesson, file, measures)
    return lesson


def _front(body: str, file: str) -> dict[str, Any]:
    try:
        front = plain_yaml.load(body)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 2 + (mark.line if mark else 0)
        raise LessonError(file, line, "front matter: bad YAML") from None
    if not isinstance(front, dict):
        raise LessonError(file, 1, "front matter: it must be YAML fields, `name: value`")
    for name, kind in _FRONT.items():
        if name not in front:
            raise LessonError(file, 1, f"front matter: the field `{name}` is missing")
        if not isinstance(front[name], kind) or isinstance(front[name], bool):
            raise LessonError(file, 1, f"front matter: `{name}` must be {kind.__name__}")
    for name in front:
        if name not in _FRONT:
            raise LessonError(file, 1, f"front matter: it has no field `{name}`")
    if not 1 <= front["difficulty"] <= 5 or front["minutes"] < 1:
        raise LessonError(file, 1, "front matter: `difficulty` is 1 to 5 and `minutes` at least 1")
    return front


def _html_lines(tokens: list[Token]) -> Iterator[int]:
    """The lines at which there is raw HTML, which would be shown as it stands."""
    for token in tokens:
        inline = any(child.type == "html_inline" for child in token.children or ())
        if token.type == "html_block" or inline:
            yield (token.map or [0])[0] + 1


class _Reader:
    """Collects blocks and steps as the Markdown parser finds them."""

    def __init__(self, lines: list[str], file: str, settings: Mapping[str, Any]) -> None:
        self.lines, self.file, self.settings = lines, file, settings
        self.intro: list[Block] = []
        self.steps: list[tuple[str, int, list[Block]]] = []
        self.ids: set[str] = set()
        self.depth = 2

    def read(self, token: Token) -> None:
        start, end = token.map or [0, 0]
        if token.type == "colon_fence":
            if not self.lines[end - 1].lstrip().startswith(":::"):
                raise LessonError(self.file, start + 1, "this directive is never closed with :::")
            self._here().append(self._directive(token, start + 1))
        elif token.type == "heading_open" and token.tag == "h2":
            self._new_step(start)
        else:
            self._markdown(token, start, end)

    def lesson(self, name: str, front: dict[str, Any]) -> Lesson:
        steps = tuple(
            Step(id=slug(title), title=title, blocks=tuple(blocks), line=line)
            for title, line, blocks in self.steps
        )
        names = {"sources": tuple(map(str, front["sources"]))}
        return Lesson(
            id=name,
            **{**front, **names, "before": tuple(map(str, front["before"]))},
            intro=tuple(self.intro),
            steps=steps,
        )

    def _here(self) -> list[Block]:
        return self.steps[-1][2] if self.steps else self.intro

    def _new_step(self, start: int) -> None:
        title = self.lines[start].strip().strip("#").strip()
        self._new_id(slug(title), start + 1)
        self.steps.append((title, start + 1, []))
        self.depth = 2

    def _new_id(self, name: str, line: int) -> None:
        if name in self.ids:
            raise LessonError(self.file, line, f"the id `{name}` is there already")
        self.ids.add(name)

    def _markdown(self, token: Token, start: int, end: int) -> None:
        if token.type == "heading_open":
            depth = int(token.tag[1:])
            if depth == 1 or depth > self.depth + 1:
                raise LessonError(
                    self.file, start + 1, f"a heading of level {depth} is out of order"
                )
            self.depth = depth
        text = "\n".join(self.lines[start:end]).strip("\n")
        if token.type not in ("fence", "code_block"):
            self._check_terms(text, start + 1)
        here = self._here()
        if here and isinstance(here[-1], Text):
            last = here.pop()
            assert isinstance(last, Text)
            here.append(Text(f"{last.markdown}\n\n{text}", last.line))
        else:
            here.append(Text(text, start + 1))

    def _check_terms(self, text: str, line: int) -> None:
        for offset, entry in glossary.uses(text):
            if entry not in glossary.terms():
                at = line + text.count("\n", 0, offset)
                raise LessonError(self.file, at, f"`{entry}` is not in the glossary")

    def _directive(self, token: Token, line: int) -> Block:
        match = _INFO.match(token.info.strip())
        name = match.group(1) if match else token.info.strip()
        if match is None or name not in directives.NAMES:
            known = ", ".join(directives.NAMES)
            raise LessonError(self.file, line, f"unknown directive `{name}`; there are {known}")
        fence = directives.Fence(name, match.group(2).strip(), token.content, line)
        if name in _NEED_LABEL and not fence.label:
            raise LessonError(self.file, line, f"{name}: a label must follow {{{name}}}")
        if name in _NEED_ID:
            if not _ID.match(fence.label):
                reason = f"{name}: an id of small letters, digits and hyphens must follow"
                raise LessonError(self.file, line, reason)
            self._new_id(fence.label, line)
        self._check_terms(fence.body, line + 1)
        return self._read_directive(fence)

    def _read_directive(self, fence: directives.Fence) -> Block:
        if fence.name == "hint":
            block: Block = directives.hint(fence)
        else:
            what = f"{fence.name} {fence.label}".strip()
            fields = Fields(
                fence.body,
                file=self.file,
                line=fence.line,
                what=what,
                settings=self.settings,
            )
            block = directives.READERS[fence.name](fence, fields)
            fields.done()
        for text in (v for v in vars(block).values() if isinstance(v, str)):
            if any(_html_lines(MarkdownIt("commonmark").parse(text))):
                raise LessonError(self.file, fence.line, _NO_HTML)
        if isinstance(block, Hint | Mislead):
            block = dataclasses.replace(block, id=slug(f"{fence.name} {fence.label}"))
            self._new_id(block.id, fence.line)
        return block


def slug(title: str) -> str:
    """A heading as an id: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", glossary.plain_text(title).lower()).strip("-")


def _check_measures(lesson: Lesson, file: str, known: Mapping[str, Measure]) -> None:
    for measured, more in lesson.measured():
        measure = known.get(measured.name)
        if measure is None:
            raise LessonError(file, measured.line, f"unknown measure `{measured.name}`")
        given = {**measured.given, **more}
        _check_given(lesson, file, measured, measure, given)


def _check_given(
    lesson: Lesson, file: str, measured: Measured, measure: Measure, given: Collection[str]
) -> None:
    for name in given:
        if name not in measure.takes and name not in lesson.settings:
            reason = f"`{name}` is neither an argument of {measured.name} nor a setting"
            raise LessonError(file, measured.line, reason)
    for name in measure.needs:
        if name not in given:
            raise LessonError(file, measured.line, f"{measured.name} needs the argument `{name}`")
