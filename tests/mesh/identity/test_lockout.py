"""mesh/identity/lockout.py: reliability.md Defaults, 5 failures in 5 minutes for 10 minutes, per user and address."""
from __future__ import annotations

import pytest

from mesh.identity.lockout import ENTRIES_MAX, Lockout, network_of


def test_four_failures_in_the_window_do_not_lock() -> None:
    lockout = Lockout()
    for second in range(4):
        assert not lockout.fail("ana", "192.0.2.1", float(second))
    assert not lockout.is_locked("ana", "192.0.2.1", 4.0)


def test_failures_older_than_five_minutes_do_not_count() -> None:
    lockout = Lockout()
    for second in range(0, 400, 100):
        lockout.fail("ana", "192.0.2.1", float(second))
    assert not lockout.fail("ana", "192.0.2.1", 401.0)


def test_a_good_login_clears_the_slate() -> None:
    lockout = Lockout()
    for _ in range(4):
        lockout.fail("ana", "192.0.2.1", 0.0)
    lockout.forget("ana", "192.0.2.1")
    assert not lockout.fail("ana", "192.0.2.1", 1.0)


def test_memory_is_bounded() -> None:
    lockout = Lockout()
    for number in range(ENTRIES_MAX + 100):
        lockout.fail(f"user {number}", "192.0.2.1", 0.0)
    assert len(lockout._entries) == ENTRIES_MAX


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1:5000", "192.0.2.1"), ("[2001:db8:1:2:3::4]:5000", "2001:db8:1:2::"),
    ("[::ffff:192.0.2.1]:5000", "192.0.2.1"), ("", ""), ("odd", "odd"),
])
def test_an_ipv6_client_is_its_64(address: str, network: str) -> None:
    assert network_of(address) == network
