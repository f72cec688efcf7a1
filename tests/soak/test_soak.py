"""The soak's own parts: its table, what counts as lost or grown, and a few seconds of its load on a real node."""
from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from tests.soak.__main__ import STAGES, Result, result_of, table
from tests.soak.mixed import GROWTH_MAX_BYTES, RATES, Load, run


def load() -> Load:
    made = Load(SimpleNamespace(), 1.0)
    made.read = made.shared = 1
    for name in RATES:
        made.acked[name] = 2
        made.took(b"%s 0 ..." % name.encode())
        made.took(b"%s 1 ..." % name.encode())
    return made


def test_the_mixed_load_on_a_real_node_loses_nothing(tmp_path):
    fine, summary = run(tmp_path, 4.0)
    assert fine, summary


def test_what_was_acked_and_did_not_come_is_lost_and_what_came_twice_is_doubled():
    one = load()
    assert one.fine and one.missing == 0
    one.acked["kafka"] += 1
    assert one.missing == 1 and not one.fine
    one.took(b"kafka 2 ...")
    assert one.fine
    one.took(b"kafka 2 ...")
    assert one.doubles == 1 and not one.fine


def test_memory_that_grows_from_the_second_quarter_to_the_last_is_a_fault():
    one = load()
    one.rss = [0, 0, *[100] * 4, *[100 + GROWTH_MAX_BYTES] * 2]
    assert one.growth_bytes() == GROWTH_MAX_BYTES and one.fine
    one.rss[-2:] = [101 + GROWTH_MAX_BYTES] * 2
    assert not one.fine
    one.rss = [0, 0, *[100 + GROWTH_MAX_BYTES] * 6]
    assert one.growth_bytes() == 0, "a start fills its caches"


def test_the_table_says_the_last_result_of_each_stage_and_which_failed():
    assert result_of("round 1: clean\nround 2: clean\nbye\n", r"round \d+: .*") == "round 2: clean"
    assert result_of("Traceback\nOSError: no\n", r"round \d+: .*") == "OSError: no"
    assert result_of("", "") == "it said nothing"
    text = table([Result(STAGES[0], True, 60.0, "0 of 9 failed"), Result(STAGES[1], False, 90.0, "1 of 9 failed")])
    assert "| holds | 1.0 min | 0 of 9 failed |" in text and "| FAILED | 1.5 min | 1 of 9 failed |" in text


def test_every_stage_is_a_program_that_takes_these_arguments():
    for stage in STAGES:
        if stage.full[0] != "pytest":
            ran = subprocess.run([sys.executable, "-m", stage.full[0], "--help"], capture_output=True, text=True,
                                 check=True)
            words = {word for word in (*stage.full, *stage.short) if word.startswith("--")}
            assert all(word in ran.stdout for word in words), stage
