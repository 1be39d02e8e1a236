"""Facts as visitors bring them: every bad row has its reason, and the others run."""

import pytest

from app.mass_editing_lab.rows import (
    MOST_ROWS,
    TEMPLATE,
    TableError,
    contradictions,
    read_csv,
    read_records,
)

HEADING = "prompt,subject,target_new,target_true\n"
HOSTILE = '=HYPERLINK("http://x.example")</script><img src=x onerror=alert(1)>'


def fact(n):
    return f"The town of T{n} is in,T{n},France,Spain"


def test_the_template_is_a_table():
    """Forbids a template that the lab itself cannot read."""
    table = read_csv(TEMPLATE.encode())
    assert len(table.rows) == 3
    assert table.bad == table.notes == ()
    assert table.rows[2].request.prompt == "The capital of Japan, as everybody knows, is"


def test_ten_bad_rows_of_a_thousand_are_named_and_the_rest_run():
    """Forbids one bad row that stops all others, or that goes missing without a word."""
    lines = [fact(n) for n in range(MOST_ROWS)]
    wrong = {
        3: ",T3,France,Spain",
        50: "The town is in,T50,France,",
        99: "The town of T99 is in,,France,",
        100: "The town of T100 is in,T100,,Spain",
        200: "The town of T200 is in,T200,Spain,Spain",
        300: fact(299),
        400: "a, b, c, d, e, f",
        500: "only this",
        600: f"{'The town of T600 ' * 40}is in,T600,France,",
        999: '"The town of\nT999 is in",T999,France,',
    }
    for number, line in wrong.items():
        lines[number - 1] = line
    lines[298] = fact(299)
    table = read_csv((HEADING + "\n".join(lines)).encode())
    assert [bad.number for bad in table.bad] == list(wrong)
    assert len(table.rows) == MOST_ROWS - len(wrong)
    assert all(bad.reason.endswith(".") for bad in table.bad)
    assert len({bad.reason for bad in table.bad}) >= len(wrong) - 1


def test_more_than_the_most_are_cut_and_it_is_said():
    """Forbids rows that are dropped in silence."""
    table = read_csv((HEADING + "\n".join(fact(n) for n in range(MOST_ROWS + 5))).encode())
    assert len(table.rows) == MOST_ROWS
    assert table.notes == ("Of 1005 rows the first 1000 are taken.",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(encoding, delimiter):
    """Forbids a file that a spreadsheet wrote and the lab cannot read."""
    text = "target_new,Subject,note,PROMPT\r\nRome,Dürer,x,Dürer was born in\r\n"
    table = read_csv(text.replace(",", delimiter).encode(encoding))
    assert table.rows[0].request.subject == "Dürer"
    assert table.bad == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "first line must name"),
        (b"prompt,subject\na,b\n", "target_new is not there"),
        (HEADING.encode(), "no row below"),
        (b"\x89PNG\r\n\x1a\n\xff\xd8", "no text in UTF-8"),
        (HEADING.encode() + b'"' + b"x" * 200_000, "no CSV file"),
    ],
    ids=["empty", "a column missing", "no rows", "a picture", "one endless cell"],
)
def test_what_is_no_table_is_said(content, said):
    """Forbids a traceback for a file of another kind."""
    with pytest.raises(TableError, match=said):
        read_csv(content)


def test_hostile_cells_stay_data():
    """Forbids a cell that is read as anything but text."""
    quoted = HOSTILE.replace('"', '""')
    table = read_csv(f'{HEADING}"{quoted} is in","{quoted}",Rome,\n'.encode())
    assert table.rows[0].request.subject == HOSTILE


def test_the_editable_table_gives_the_same_rows():
    """Forbids empty lines of the editor called bad, and missing cells taken as text."""
    empty = {"prompt": None, "subject": float("nan"), "target_new": "", "target_true": None}
    full = {"prompt": "Rome is in ", "subject": "Rome", "target_new": "Spain", "target_true": None}
    table = read_records([empty, full])
    assert [row.number for row in table.rows] == [2]
    assert table.rows[0].request.target_true == ""
    assert table.bad == ()


def test_contradictions_are_found():
    """Forbids two answers to one question that nobody is told of."""
    lines = ["Rome is in,Rome,Spain,", "Oslo is in,Oslo,Spain,", "Rome is in,Rome,France,"]
    (pair,) = contradictions(read_csv((HEADING + "\n".join(lines)).encode()).rows)
    assert [row.number for row in pair] == [1, 3]
