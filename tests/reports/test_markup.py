import pytest

from llmlab.reports.markup import element, page, picture, table, text

HOSTILE = "<script>alert(\"1\")</script> & 'more'"


def test_a_text_is_escaped_wherever_it_stands():
    whole = page(
        HOSTILE,
        "",
        [
            element("p", text(HOSTILE), title=HOSTILE),
            table([HOSTILE], [[HOSTILE]], notes=[HOSTILE], caption=HOSTILE),
            picture(b"<svg/>", HOSTILE),
        ],
    )
    assert "<script" not in whole
    assert whole.count("&lt;script&gt;") == 8
    assert '="<' not in whole


def test_the_page_forbids_scripts_and_everything_from_outside():
    whole = page("title", "", [])
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in whole


def test_numbers_stand_to_the_right_and_prose_to_the_left():
    whole = table(["name", "n"], [["a", 1]], texts=frozenset({0}))
    assert '<th scope="col" class="text">name</th><th scope="col" class="number">n</th>' in whole
    assert '<td class="text">a</td><td class="number">1</td>' in whole


def test_a_note_is_a_line_of_its_own_below_its_row():
    whole = table(["a", "b"], [[1, 2], [3, 4]], notes=["", "why"])
    assert whole.count("note-of-row") == 1
    assert '</tr><tr><td colspan="2" class="note-of-row">why</td></tr></tbody>' in whole


def test_a_row_with_another_number_of_cells_than_the_head_is_a_bug():
    with pytest.raises(ValueError):
        table(["a", "b"], [[1]])
