from pathlib import Path

import pytest

from mshv_async.guest import Touch, parse_trace, read_trace
from mshv_async.hyperv import Access

TRACES = Path(__file__).parents[2] / "scenarios" / "traces"


def test_comments_and_empty_lines_say_nothing():
    trace = parse_trace("# head\n\nr 47\nw 335\nx 0\n", "t.pages")
    assert trace.touches == (
        Touch(Access.READ, 0x47),
        Touch(Access.WRITE, 0x335),
        Touch(Access.EXECUTE, 0),
    )
    assert trace.pages == 0x336


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("r", "expected a kind and a page number"),
        ("r 1 2", "expected a kind and a page number"),
        ("q 1", "none of r, w, x"),
        ("r 0x1", "not a hexadecimal number"),
        ("r -1", "not a hexadecimal number"),
        ("r 1_0", "not a hexadecimal number"),
        ("r zz", "not a hexadecimal number"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line_in_one_line(line, what):
    with pytest.raises(ValueError, match=what) as caught:
        parse_trace(f"# head\nr 1\n{line}\n", "t.pages")
    message = str(caught.value)
    assert message.startswith("t.pages:3: ")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_a_trace_without_a_touch_is_refused(text):
    with pytest.raises(ValueError, match=r"^t\.pages: no touch"):
        parse_trace(text, "t.pages")


def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path):
    path = tmp_path / "binary.pages"
    path.write_bytes(b"\x7fELF\xff")
    with pytest.raises(ValueError, match="not plain text"):
        read_trace(path)


@pytest.mark.parametrize(("name", "touches"), [("sort", 1624), ("sqlite", 14850), ("xz", 30000)])
def test_the_shipped_traces_can_be_read(name, touches):
    assert len(read_trace(TRACES / f"{name}.pages").touches) == touches
