"""Signed heads: the verifier finds every change of the audit trail, offline, in a copy; a full disk stops only acts."""
from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from mesh.cli import main
from mesh.identity.node_key import NodeKey, is_signed
from mesh.management.acts.audit import Audit, AuditRefused
from mesh.management.acts.chain import digest
from mesh.management.acts.heads import Head, head_of
from routing.errors import ConfigError, Reason, Refusal
from routing.event import Event
from routing.log.inspect import payloads
from routing.rights.policy import Identity
from routing.ticket import Ticket
from tests.support.admin import ROOT, Admin, basic
from tests.support.node import Node, meshgate
from tests.support.routing import Desk
from tests.support.wait import wait_until

ANA = Identity("ana", ("admin",))
Records = list[bytes]
Trail = tuple[Records, Records]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Trail, Path]]:
    """A data directory of a real node with eight acts, its records and heads, and a head that was kept elsewhere."""
    folder = tmp_path_factory.mktemp("audit")
    node = Node(folder / "node", extra=ROOT).start()
    admin = Admin(node)
    for number in range(8):
        admin.must_put(f"roles/r{number}", held_by=["till"])
    kept = folder / "kept.head"
    kept.write_bytes(meshgate("audit", "head", environment={
        "MESHGATE_USER": "root", "MESHGATE_PASSWORD": "the admin password", "MESHGATE_CONSOLE": node.url("console"),
    }).stdout)
    node.stop()
    streams = node.data / "streams"
    trail = ([payload for _, payload in payloads(streams / "%24audit")],
             [payload for _, payload in payloads(streams / "%24audit-heads")])
    yield node.data, trail, kept


def copied(folder: Path, records: Records, heads: Records) -> Path:
    """A log that is well in itself, with these records."""
    desk = Desk(folder)
    for name, values in (("$audit", records), ("$audit-heads", heads)):
        events = [Event(topic="x", payload=payload) for payload in values]
        ticket = Ticket(events)
        desk.router.streams.open_internal(name, compact=False).append(events, ticket)
        ticket.part_done()
        desk.router.request_turn()
        desk.run()
    desk.close()
    return folder


def verified(folder: Path, *options: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(["audit", "verify", str(folder), *options])
    return code, said.getvalue()


def rebuilt(records: Records, first: int) -> Records:
    """The chain made anew from a record on, as who has the disk could."""
    found = records[:first]
    for payload in records[first:]:
        values = json.loads(payload)
        values["previous"] = digest(found[-1]) if found else ""
        found.append(msgspec.json.encode(values, order="sorted"))
    return found


def test_a_copy_of_the_directory_holds(written: tuple[Path, Trail, Path], tmp_path: Path) -> None:
    data, (records, heads), kept = written
    shutil.copytree(data, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
    code, said = verified(tmp_path / "copy", "--head", str(kept), "--key", (data / "node.pub").read_text().strip())
    assert code == 0 and said.startswith(f"{len(records)} records hold"), said
    assert len(records) >= 8 and heads
    assert (data / "node.key").stat().st_mode & 0o777 == 0o600
    assert verified(copied(tmp_path / "again", records, heads))[0] == 0


HARMS: dict[str, Callable[[Records, Records], Trail]] = {
    "changed": lambda r, h: ([*r[:3], r[3].replace(b"root", b"rood"), *r[4:]], h),
    "the last one changed": lambda r, h: ([*r[:-1], r[-1].replace(b"root", b"rood")], h),
    "dropped": lambda r, h: (r[:3] + r[4:], h),
    "swapped": lambda r, h: ([*r[:3], r[4], r[3], *r[5:]], h),
    "added": lambda r, h: ([*r[:3], r[2], *r[3:]], h),
    "added at the end": lambda r, h: ([*r, r[-1]], h),
    "the tail is cut": lambda r, h: (r[:-1], h),
    "all but one are cut": lambda r, h: (r[:1], h),
    "forged, and the chain made anew": lambda r, h: (
        rebuilt([*r[:3], r[3].replace(b"root", b"rood"), *r[4:]], 4), h),
    "dropped, and the chain made anew": lambda r, h: (rebuilt(r[:3] + r[4:], 3), h),
    "no heads": lambda r, h: (r, []),
    "a head is forged": lambda r, h: (r[:-2], [
        *h[:-1], msgspec.json.encode(msgspec.structs.replace(
            head_of(h[-1]) or Head(0, "", "", "", 0), count=len(r) - 2, head=digest(r[-3])), order="sorted")]),
    "a head that is none": lambda r, h: (r, [*h, b"x"]),
}


@pytest.mark.parametrize("harm", HARMS)
def test_the_verifier_finds(harm: str, written: tuple[Path, Trail, Path], tmp_path: Path) -> None:
    _, (records, heads), _ = written
    code, said = verified(copied(tmp_path, *HARMS[harm](list(records), list(heads))))
    assert code == 1 and "broken at record" in said, said


def test_a_head_that_was_kept_elsewhere_convicts_who_has_the_key(written: tuple[Path, Trail, Path], tmp_path: Path,
                                                                ) -> None:
    """The whole trail made anew, with heads signed by the node's own key: it is well in itself."""
    data, (records, _), kept = written
    key = NodeKey(data)
    forged = rebuilt([records[0].replace(b"root", b"rood"), *records[1:]], 1)
    head = Head(len(forged), digest(forged[-1]), key.public, "test-1", 0)
    signed = msgspec.json.encode(msgspec.structs.replace(head, signature=key.sign(head.signed_bytes())), order="sorted")
    copy = copied(tmp_path / "forged", forged, [signed])
    assert verified(copy)[0] == 0
    code, said = verified(copy, "--head", str(kept))
    assert code == 1 and "not the one that the node signed" in said
    cut = copied(tmp_path / "cut", records[:2], [])
    code, said = verified(cut, "--head", str(kept))
    assert code == 1 and "the tail is cut" in said
    stranger = NodeKey(tmp_path)
    assert verified(copied(tmp_path / "x", records, [signed]), "--key", stranger.public)[0] == 1


def test_a_full_disk_refuses_acts_and_the_chain_is_whole_afterwards(tmp_path: Path) -> None:
    """What is not written down is not done; events go on; what was refused is in no record's past."""
    desk = Desk(tmp_path / "log")
    full = Refusal(Reason.STORAGE_FULL, "the disk is full")

    async def scenario() -> Records:
        audit = Audit(desk.router, lambda: 0, NodeKey(tmp_path), "n")
        partition = audit._partition

        async def record(act: str) -> int:
            task = asyncio.create_task(audit.record(ANA, act, "x"))
            while not task.done():
                await asyncio.sleep(0)
                desk.run()
            return task.result()
        assert await record("one") == 0
        partition.held_up = full
        many = [asyncio.create_task(audit.record(ANA, f"refused {number}", "x")) for number in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
            desk.run()
        assert all(isinstance(task.exception(), AuditRefused) for task in many)
        assert not desk.publish("plant/1").refusals
        partition.held_up = None
        assert await record("two") == 1 and await record("three") == 2
        audit.heads.stop()
        desk.run()
        return [event.payload for event in partition.scan(0, lambda _: True, max_events=9, max_scanned=9).events]
    records = asyncio.run(scenario())
    assert [json.loads(record)["act"] for record in records] == ["one", "two", "three"]
    assert [json.loads(record)["previous"] for record in records] == ["", digest(records[0]), digest(records[1])]
    desk.close()
    assert verified(tmp_path / "log")[0] == 0


def test_logins_failures_reloads_and_views_of_payloads_are_on_record(tmp_path: Path) -> None:
    node = Node(tmp_path, extra=ROOT).start()
    try:
        admin = Admin(node)
        assert node.post("/api/v1/login", b'{"user": "root", "password": "the admin password"}',
                         listener="console").status == 200
        assert node.publish("a", b"x", basic("root", "wrong")).status == 401
        assert admin.ask("GET", "browse?filter=a").status == 200 and admin.ask("GET", "browse?filter=a").status == 200
        node.write_config(ROOT.replace('"admin"', '"admin", "till"') + "[limits]\npayload_bytes_max = 1000\n")
        node.sighup()
        found = wait_until(lambda: (rows := admin.rows("audit")) and rows[0]["act"] == "configuration.reload" and rows,
                           "the reload is on record")
        node.write_config("nonsense")
        node.sighup()
        wait_until(lambda: admin.rows("audit")[0]["outcome"] == "refused", "the bad one, too")
    finally:
        node.kill9()
    acts = [(row["act"], row["user"], row["outcome"]) for row in found]
    assert acts == [("configuration.reload", "$file", "done"), ("payload.browse", "root", "done"),
                    ("login", "root", "failed"), ("login", "root", "done")]
    assert found[0]["after"]["limits.payload_bytes_max"][1] == 1000
    assert "argon2" not in str(found) and "the admin password" not in str(found)


def test_a_key_that_cannot_be_read_is_no_start(tmp_path: Path) -> None:
    first = NodeKey(tmp_path)
    assert NodeKey(tmp_path).public == first.public == (tmp_path / "node.pub").read_text().strip()
    assert is_signed(first.public, first.sign(b"x"), b"x") and not is_signed(first.public, first.sign(b"x"), b"y")
    assert not is_signed("zz", "00", b"x")
    (tmp_path / "node.key").write_text("no key")
    with pytest.raises(ConfigError, match="node.key"):
        NodeKey(tmp_path)
