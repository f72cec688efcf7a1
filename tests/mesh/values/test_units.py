"""mesh/values/units.py: sizes and durations."""
from __future__ import annotations

import pytest

from mesh.values.units import exact_duration, format_duration, format_size, parse_duration_ms, parse_size


@pytest.mark.parametrize(("text", "size"), [
    (0, 0), (17, 17), ("17", 17), ("1KiB", 1024), ("1 KiB", 1024), ("1KB", 1000), ("10GiB", 10 * 2**30),
    ("1.5MiB", 1_572_864), (" 2TiB ", 2 * 2**40), ("0B", 0),
])
def test_a_size_is_a_number_of_bytes_or_has_a_unit(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [
    "", "GiB", "1 gib", "-1", "1e3", "1.2.3KiB", "٣", "1_000", "9" * 30, True, None, 1.5, -1, 2**63,
])
def test_what_is_not_a_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(("text", "milliseconds"), [
    ("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("5min", 300_000), ("24h", 86_400_000), ("7d", 604_800_000),
    ("2w", 1_209_600_000), ("0.5s", 500),
])
def test_a_duration_has_a_unit(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["10", "", "7 days", "-1s", 10, None, "1y"])
def test_a_duration_without_a_known_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="such as 10s, 24h or 7d"):
        parse_duration_ms(text)


@pytest.mark.parametrize("milliseconds", [0, 1, 999, 1_000, 90_000, 86_400_000, 604_800_000])
def test_exact_duration_reads_back_the_same(milliseconds: int) -> None:
    assert parse_duration_ms(exact_duration(milliseconds)) == milliseconds


def test_texts_for_people() -> None:
    assert [format_size(size) for size in (0, 1023, 1536, 3 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
    assert [format_duration(s) for s in (0, 0.25, 59, 3 * 86_400 + 7_300)] == ["0s", "250ms", "59s", "3d 2h"]
