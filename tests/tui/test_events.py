"""Server-sent events in whatever pieces they arrive."""
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.api.events import EVENT_BYTES_MAX, EventReader, ServerEvent, StreamBroken

STREAM = b"event: state\ndata: {\"a\": 1}\n\n: still here\n\nevent: rates\r\n" \
    b"data: {}\r\ndata: 2\r\n\r\ndata: x\n\nevent: y\n\n"
EVENTS = [ServerEvent("state", b'{"a": 1}'), ServerEvent("", b""), ServerEvent("rates", b"{}\n2"),
          ServerEvent("message", b"x")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_pieces_make_no_difference(places: list[int]) -> None:
    reader = EventReader()
    found = []
    bounds = [0, *sorted(places), len(STREAM)]
    for start, end in pairwise(bounds):
        found += reader.receive(STREAM[start:end])
    assert found == EVENTS


def test_an_event_without_end_is_refused() -> None:
    reader = EventReader()
    with pytest.raises(StreamBroken):
        for _ in range(EVENT_BYTES_MAX // 1_048_576 + 1):
            reader.receive(b"x" * 1_048_576)
