"""Text from strangers: nothing moves the cursor, hides, or makes a line longer than its cells."""
from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.text import clean, clean_lines, cut, fit, width_of, wrap

HOSTILE = ["\x1b[2J\x1b[H", "a\rb", "a\nb", "\x9b31m", "\u202etxt.exe", "\u2066a\u2069", "\u200bhidden\ufeff", "\x07",
           "\u2028next", "👨\u200d👩\u200d👧", "🇦🇹", "e" + "\u0301" * 40,
           "\ud800", "\U000e0041", "\ue000", "שלום", "日本語"]


def moves(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hostile_is_shown_and_does_nothing(text: str) -> None:
    shown = clean(text)
    assert shown and not any(moves(char) for char in shown)
    assert "\n" not in shown and "\x1b" not in shown
    assert sum(unicodedata.category(char) in ("Mn", "Me") for char in shown) <= 2


def test_what_was_hidden_can_be_seen() -> None:
    assert clean("a\x1b[31mb\x00\x7f") == "a␛[31mb␀␡"
    assert clean("\u202egpj.exe") == "·gpj.exe"
    assert clean("graz/lamp é 日本 שלום") == "graz/lamp é 日本 שלום"


@given(st.text(max_size=60), st.integers(0, 40))
def test_cut_and_fit_keep_their_cells(text: str, width: int) -> None:
    shown = clean(text)
    assert not any(moves(char) for char in shown)
    assert cell_len(cut(shown, width)) <= width
    assert cell_len(fit(shown, width)) == width == cell_len(fit(shown, width, right=True))


@given(st.text(alphabet=st.sampled_from("ab 日é"), max_size=80), st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_payload_is_cut_at_its_bound() -> None:
    assert clean_lines("a\tb\r\nc", 10) == ["a   b", "c"]
    assert len(clean_lines("x\n" * 500, 100)) == 101
