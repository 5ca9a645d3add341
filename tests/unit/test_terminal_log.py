"""A log on a terminal: everything is shown, colours act, nothing else does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cli.terminal_log import TerminalLog

ACTS = re.compile("\x1b(?!\\[[0-9;:]{0,40}m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(*chunks: bytes) -> str:
    log = TerminalLog()
    return "".join(map(log.feed, chunks)) + log.feed(b"", is_last=True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain \xc3\xa4\n\tend\r\n", "plain ä\n\tend\r\n"),
        (b"10%\r20%\r", "10%\r20%\r"),
        (b"\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m", "\x1b[1;31mred\x1b[0m \x1b[38:5:1mx\x1b[m"),
        (b"\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
        (b"\x1b]0;title\x1b\\", "\\x1b]0;title\\x1b\\"),
        (b"\x1b[2J\x1b[H\x1b[1A\x1b[?1049h\x1bc", r"\x1b[2J\x1b[H\x1b[1A\x1b[?1049h\x1bc"),
        (b"\x1b[31;mx\x1b[31 mx\x1b[>4m", "\x1b[31;mx\\x1b[31 mx\\x1b[>4m"),
        (b"\xc2\x9b31m \x9b31m \xff", r"\x9b31m \x9b31m \xff"),
        (b"a\x00b\x08c\x0b\x0c\x7f", r"a\x00b\x08c\x0b\x0c\x7f"),
        ("a\u202eb\u2028c".encode(), r"a\u202eb\u2028c"),
        (b"\x1b[" + b"1;" * 100 + b"m", r"\x1b[" + "1;" * 100 + "m"),
        (b"\x1b", r"\x1b"),
        (b"\x1b[3", r"\x1b[3"),
        (b"\xc3", r"\xc3"),
    ],
)
def test_colours_and_line_movements_pass_and_the_rest_is_made_visible(data: bytes, text: str) -> None:
    assert shown(data) == text
    assert shown(*(bytes([byte]) for byte in data)) == text, "cut anywhere"


pieces = st.lists(
    st.binary(max_size=6) | st.sampled_from([b"\x1b[", b"\x1b", b"31", b"m", b"\x1b]", "é\x9b\u202e".encode(), b"\n"])
)


@given(pieces)
def test_any_log_in_any_pieces_is_shown_alike_and_commands_nothing(chunks: list[bytes]) -> None:
    whole = shown(b"".join(chunks))
    assert shown(*chunks) == whole
    assert not ACTS.search(whole)


def test_what_is_said_in_between_has_no_colour_of_the_log() -> None:
    log = TerminalLog()
    assert log.settle() == ""
    assert log.feed(b"\x1b[8mhidden\n") == "\x1b[8mhidden\n"
    assert log.settle() == "\x1b[0m"
    assert log.settle() == "", "once"
    assert log.feed(b"still hidden\n") == "\x1b[8mstill hidden\n", "the log goes on as it was"
    assert log.feed(b"\x1b[0mplain\n") == "\x1b[0mplain\n"
    assert log.settle() == ""
