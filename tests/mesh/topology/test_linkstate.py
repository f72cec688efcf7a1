"""The database converges, whatever happens to gossip on the way; the dead expire; a name that starts again wins."""
from __future__ import annotations

import itertools
import random
from collections import Counter

import msgspec
import pytest

from mesh.topology.gossip.own import OwnState
from mesh.topology.linkstate.linkstate import CHAIN_MAX, LEVELS_MAX, UPDATES_BURST, LinkState, Outcome
from mesh.topology.linkstate.nodestate import (
    Alive,
    BadState,
    Change,
    LinkInfo,
    NodeChange,
    NodeInfo,
    NodeRecord,
    StreamInfo,
    Whole,
    decode_change,
    decode_entry,
    decode_record,
    encode,
)
from mesh.topology.linkstate.seals import Seals
from mesh.topology.settings import MeshSettings
from tests.mesh.topology.net import Net


def database(**options) -> LinkState:
    return LinkState(**{"expiry_s": 30.0, "nodes_max": 100, "state_bytes_max": 100_000, "memory_bytes_max": 64 << 20,
                        **options})


def take(states: LinkState, raw: bytes, now_s: float = 0.0) -> Outcome:
    entry = decode_entry(raw)
    if isinstance(entry, Whole):
        return states.take_whole(decode_record(entry.record), entry.record, entry.age_ms, now_s, "peer")
    if isinstance(entry, Change):
        return states.take_change(decode_change(entry.change), entry.change, entry.age_ms, now_s, "peer")
    assert isinstance(entry, Alive)
    return states.take_alive(entry, now_s)


def record(name="a", boot="b1", sequence=1, **fields) -> NodeRecord:
    return NodeRecord(name, boot, sequence, "site", "epoch", "1", 1, 1, 5, **fields)


def whole(name="a", boot="b1", sequence=1, age_ms=0, **fields) -> bytes:
    return encode(Whole(age_ms, encode(record(name, boot, sequence, **fields))))


def change(base, sequence, name="a", boot="b1", **fields) -> bytes:
    return encode(Change(0, encode(NodeChange(name, boot, base, sequence, **fields))))


def alive(version, beat, name="a", boot="b1", age_ms=0) -> bytes:
    return encode(Alive(age_ms, name, boot, version, beat))


@pytest.mark.parametrize("seed", range(200))
def test_any_order_of_any_repeats_ends_in_the_newest_state(seed: int) -> None:
    """A node's own sayings, shuffled, doubled and some lost; what is missing is asked for and comes as a whole."""
    rng = random.Random(seed)
    source, told = database(), []
    unsigned = Seals(None, None, Counter(), required=False)
    own = OwnState(NodeInfo("a", "site", "epoch", "b1"), source, unsigned, 1_000, 0.0)
    for step in range(rng.randrange(1, 60)):
        own.set_interest(tuple({f"t/{rng.randrange(10)}" for _ in range(rng.randrange(6))}))
        own.set_streams((StreamInfo("s", rng.randrange(1, 4), ("#",)),))
        version = source.nodes["a"].version
        if own.dirty:
            own.say(step)
        else:
            own.beat(step)
        told += source.nodes["a"].since("b1", version, step)
    told = [raw for raw in told if rng.random() > 0.2] * 2
    rng.shuffle(told)
    states = database()
    for raw in told:
        if take(states, raw, 1.0) is Outcome.BEHIND:        # a neighbour sends all of it
            for again in source.nodes["a"].since("", -1, 1.0):
                take(states, again, 1.0)
    for again in source.nodes["a"].since("", -1, 1.0):      # what a sign of life would lead to
        take(states, again, 1.0)
    mine, theirs = states.nodes["a"], source.nodes["a"]
    assert (mine.version, mine.beat, set(mine.state.interest), mine.state.streams) == (
        theirs.version, theirs.beat, set(theirs.state.interest), theirs.state.streams)
    assert len(theirs.chain) <= CHAIN_MAX
    assert states.levels == sum(known.levels for known in states)


def test_a_change_applies_to_its_base_only() -> None:
    states = database()
    assert take(states, change(1, 2)) is Outcome.BEHIND             # unknown node
    assert take(states, whole(sequence=1, interest=("a",))) is Outcome.NEW
    assert take(states, change(2, 3)) is Outcome.BEHIND
    assert take(states, change(1, 2, added=("b",), removed=("a",))) is Outcome.NEW
    assert take(states, change(1, 2, added=("c",))) is Outcome.OLD
    assert states.nodes["a"].state.interest == ("b",)


def test_a_sign_of_life_is_taken_for_the_version_that_it_names() -> None:
    states = database()
    assert take(states, alive(1, 5)) is Outcome.BEHIND
    take(states, whole(sequence=3))
    assert take(states, alive(3, 5), 10.0) is Outcome.ALIVE
    assert take(states, alive(3, 5), 11.0) is Outcome.OLD
    assert take(states, alive(4, 6), 11.0) is Outcome.BEHIND
    assert states.nodes["a"].fresh_s == 10.0


def test_a_node_that_is_silent_expires_and_age_is_counted_on_the_way() -> None:
    states = database()
    take(states, whole("a"), 0.0)
    take(states, whole("b", age_ms=20_000), 0.0)
    assert take(states, whole("c", age_ms=30_000), 0.0) is Outcome.OLD
    assert states.expire("me", 10.0) == ["b"]
    take(states, alive(1, 2), 20.0)
    assert states.expire("me", 40.0) == []
    assert states.expire("me", 50.0) == ["a"]
    assert states.levels == 0


def test_the_state_of_the_dead_does_not_live_on_by_being_handed_around() -> None:
    """Two databases tell each other about a node that is gone."""
    one, other = database(), database()
    take(one, whole("dead"), 0.0)
    for now_s in range(1, 100):
        for source, target in ((one, other), (other, one)):
            if "dead" in source.nodes:
                for raw in source.nodes["dead"].since("", -1, now_s):
                    take(target, raw, now_s)
        one.expire("me", now_s), other.expire("me", now_s)
        assert ("dead" in one.nodes) == ("dead" in other.nodes) == (now_s < 30)


def test_a_new_boot_with_a_higher_number_replaces_the_old_one() -> None:
    states = database()
    take(states, whole(boot="old", sequence=100, interest=("x",)))
    assert take(states, whole(boot="new", sequence=50)) is Outcome.OLD
    assert take(states, whole(boot="new", sequence=101)) is Outcome.NEW
    assert states.nodes["a"].state.interest == ()
    assert take(states, change(100, 102, boot="old")) is Outcome.BEHIND


@pytest.mark.parametrize(("raw", "text"), [
    (whole(interest=("a/#/b",)), "filter"), (whole(interest=("a+",)), "filter"),
    (whole(interest=("/".join("+" * 128),) * 200), "levels"),
    (change(5, 5), "backwards"), (change(5, 4), "backwards"),
    (encode(Whole(0, b"\xc1")), "not a node state"), (encode(Whole(0, b"")), "not a node state"),
    (encode(Whole(0, encode(record(name="x" * 65)))), "not a node state"),
    (whole(streams=(StreamInfo("s", 1, ("a/#/b",)),)), "filter"), (whole("../../x"), "a name that no node"),
    (whole("a\n"), "a name that no node"), (whole(links=(LinkInfo("b c"),)), "a name that no node"),
    (whole(streams=(StreamInfo("../s", 1, ("a",)),)), "a name that no node"),
    (whole(streams=(StreamInfo("s@1@2", 1, ("a",)),)), "a name that no node"),
    (change(1, 2, boot="ä"), "a name that no node"),
    (b"", "not a node state"), (b"\x93\x01\x00", "not a node state"), (b"\x92\x04\xdd\xff\xff\xff\xff", "not a node"),
    (encode(Whole(0, b"\x91" * 100_000)), "not a node state"),
])
def test_what_is_no_state_is_refused_and_changes_nothing(raw: bytes, text: str) -> None:
    states = database()
    with pytest.raises(BadState, match=text):
        take(states, raw)
    assert not states.nodes


def test_unknown_fields_of_a_newer_version_pass_through_an_older_node() -> None:
    fields = msgspec.msgpack.decode(encode(record(interest=("a",))))
    raw = msgspec.msgpack.encode([*fields, "new", {"x": 1}])
    states = database()
    assert take(states, encode(Whole(0, raw))) is Outcome.NEW
    assert states.nodes["a"].state.interest == ("a",)
    entry = decode_entry(states.nodes["a"].since("", -1, 0.0)[0])
    assert isinstance(entry, Whole) and entry.record == raw
    assert decode_entry(b"\x93\x20\x01\x02") is None            # a kind of entry that we do not know


def test_a_change_that_would_make_a_state_too_large_is_refused() -> None:
    states = database(state_bytes_max=2_000)
    take(states, whole(interest=("a",)))
    version = 1
    with pytest.raises(BadState, match="bytes"):
        for number in itertools.count(2):
            take(states, change(version, number, added=(f"{'x' * 100}{number}",)))
            version = number
    assert states.nodes["a"].size_bytes <= 2_000


def test_endless_changes_of_one_node_are_not_all_taken() -> None:
    states = database()
    take(states, whole())
    outcomes = [take(states, change(number, number + 1), 0.0) for number in range(1, 5_000)]
    assert outcomes.count(Outcome.NEW) <= UPDATES_BURST
    assert Outcome.EXCESS in outcomes


def test_a_filter_bomb_of_many_nodes_is_widened_instead_of_kept() -> None:
    """500,000 levels are kept; a node beyond that counts as wanting everything, so it loses nothing."""
    states = database(nodes_max=1_000, state_bytes_max=10**6)
    for number in range(40):
        filters = tuple(f"{index}/" + "+/" * 126 + "x" for index in range(127))
        assert take(states, whole(f"n{number}", interest=filters)) is Outcome.NEW
    assert states.levels <= LEVELS_MAX + 40
    assert states.nodes["n39"].state.interest == ("#",)


def test_there_is_room_for_so_many_nodes_and_the_unreachable_ones_go_first() -> None:
    states = database(nodes_max=3)
    for number, name in enumerate("abc"):
        take(states, whole(name), float(number))
    assert take(states, whole("d"), 3.0) is Outcome.FULL
    assert states.make_room({"a"}, "c") == "b"
    assert take(states, whole("d"), 3.0) is Outcome.NEW
    assert set(states.nodes) == {"a", "c", "d"}
    assert states.make_room({"a", "c"}, "d") is None


# -- whole networks --------------------------------------------------------------------------------------------------

def random_net(seed: int, *, loss: float, doubling: float, jitter_s: float) -> Net:
    rng = random.Random(seed)
    net = Net(seed, MeshSettings(gossip_interval_s=1.0, expiry_s=6.0))
    names = [f"n{index}" for index in range(rng.randrange(3, 9))]
    for name in names:
        net.add(name)
    pairs = {(rng.randrange(index), index) for index in range(1, len(names))}
    pairs |= {tuple(sorted(rng.sample(range(len(names)), 2))) for _ in range(rng.randrange(4))}
    for one, other in sorted(pairs):
        wire = net.link(names[one], names[other], cost=rng.randrange(1, 5), delay_s=rng.uniform(0.001, 0.1))
        wire.loss, wire.doubling, wire.jitter_s = loss, doubling, jitter_s
    return net


@pytest.mark.parametrize("seed", range(30))
def test_lost_doubled_and_reordered_gossip_converges(seed: int) -> None:
    net = random_net(seed, loss=0.2, doubling=0.2, jitter_s=0.3)
    rng = random.Random(seed)
    for _ in range(40):
        name = rng.choice(sorted(net.nodes))
        net.nodes[name].set_interest(tuple(f"t/{rng.randrange(20)}" for _ in range(rng.randrange(5))))
        net.run(rng.uniform(0, 0.3))
    net.run_until(net.agree, 20, 0.5)
    assert not net.lies


@pytest.mark.parametrize("seed", range(30))
def test_partition_and_heal_kills_and_restarts_converge(seed: int) -> None:
    net = random_net(seed, loss=0.0, doubling=0.1, jitter_s=0.05)
    rng = random.Random(seed)
    for step in range(30):
        wire = rng.choice(net.wires)
        match rng.randrange(4):
            case 0:
                net.break_wire(wire)
            case 1 if wire.down and wire.a in net.nodes and wire.b in net.nodes:
                net.connect(wire)
            case 2:
                name = rng.choice(sorted(net.nodes))
                net.nodes[name].set_interest((f"step/{step}",))
            case _ if len(net.nodes) > 2:
                name = rng.choice(sorted(net.nodes))
                net.kill(name)
                if rng.random() < 0.8:
                    net.run(rng.choice((0.0, 0.5, 8.0)))
                    net.add(name, clock_off_ms=rng.choice((0, -3_600_000, 3_600_000)))     # its clock jumped
        net.run(rng.uniform(0, 2))
    for wire in net.wires:
        if wire.down and wire.a in net.nodes and wire.b in net.nodes:
            net.connect(wire)
    net.run(net.settings.expiry_s + 2)
    reachable = {name: set(node.nodes) | {name} for name, node in net.nodes.items()}
    for name, group in reachable.items():
        assert net.agree(group), f"{name} does not agree with its side"
        assert all(reachable[other] == group for other in group)
        assert all(other in net.nodes for other in group)
    assert not net.lies
    assert not net.refusals


def test_the_dead_expire_everywhere() -> None:
    net = Net(settings=MeshSettings(gossip_interval_s=1.0, expiry_s=6.0))
    net.line(4)
    net.run(2)
    net.kill("n3")
    net.run(0.1)
    assert "n3" not in net.nodes["n0"].nodes                    # at once: its neighbour has lost the link
    assert "n3" in net.nodes["n0"]._states.nodes
    net.run(8)
    assert "n3" not in net.nodes["n0"]._states.nodes


def test_a_node_that_restarts_is_known_with_its_new_boot_and_its_old_interest_is_gone() -> None:
    net = Net()
    net.line(3)
    net.nodes["n2"].set_interest(("old",))
    net.run(1)
    net.kill("n2")
    net.run(0.1)
    net.add("n2", clock_off_ms=-86_400_000)                     # a day back: its numbers begin below the old ones
    net.connect(net.wires[1])
    took_s = net.run_until(lambda: "n2" in net.nodes["n0"].nodes
                           and net.nodes["n0"].nodes["n2"].boot == net.nodes["n2"].me.boot, 1)
    assert took_s < 0.1
    assert net.nodes["n0"].wants("old") == ()
    net.run(60)
    assert net.agree() and not net.nodes["n0"].problems() and not net.nodes["n2"].problems()


def test_what_one_neighbour_tells_has_its_share_of_memory_and_leaves_room_for_the_others():
    states = database(nodes_max=10_000, state_bytes_max=256 * 1024, memory_bytes_max=4 << 20)
    told = 0

    def tell(name: str, by: str, filters: int = 20, captures: int = 64) -> Outcome:
        nonlocal told
        told += 1
        record = NodeRecord(name, "b", told, "s", "e", "1", 1, 1, 0,
                            streams=(StreamInfo("s", 1, tuple(f"{i}" for i in range(captures))),),
                            interest=tuple(f"{name}/{i}" for i in range(filters)))
        return states.take_whole(record, encode(record), 0, 0.0, by)

    outcomes = [tell(f"made-up-{number}", "evil") for number in range(2_000)]
    assert outcomes[0] is Outcome.NEW and outcomes[-1] is Outcome.CROWDED
    taken = outcomes.count(Outcome.NEW)
    assert 50 < taken < 200, "2 MiB"
    assert any(known.state.interest == ("#",) for known in states), "first it counts as wanting everything"
    assert tell("evil", "evil", filters=4_000) is Outcome.NEW, "of itself a neighbour may always speak"
    assert all(tell(f"honest-{number}", "good") is Outcome.NEW for number in range(25))
    assert all(len(states.nodes[f"honest-{number}"].state.interest) == 20 for number in range(25))
    before = states.nodes["made-up-0"].state
    assert tell("made-up-0", "evil", captures=64 * 1) is not Outcome.FULL
    for name in list(states.nodes):
        if name.startswith("made-up"):
            states.forget(name)
    assert tell("made-up-1", "evil") is Outcome.NEW and before.name == "made-up-0"
    for name in list(states.nodes):
        states.forget(name)
    assert states._memory.total == 0 and not states._memory.users()


def test_a_stream_that_was_made_at_run_time_is_told_of():
    """Its name for others has an incarnation, also that of the longest name there may be."""
    streams = (StreamInfo("orders.eu@0123456789abcdef", 3, ("orders/eu/#",)),
               StreamInfo("x" * 249 + "@0123456789abcdef", 1, ("x/#",)))
    assert decode_record(encode(record("a", "b1", 1, streams=streams))).streams == streams
