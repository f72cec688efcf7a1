"""Two managers with real sockets: links come up, carry frames, come back, are taken over, paused, drained."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.link.protocol.frames import Gossip, Relay
from mesh.link.settings import LinkPeerTable, LinkTable
from routing.errors import Reason, Refusal
from tests.mesh.link.nodes import LinkNode, fast_limits, until
from tests.support.tcpproxy import DOWN, UP, TcpProxy


def to(port: int, **options: object) -> LinkTable:
    return LinkTable(**{"to": f"ws://127.0.0.1:{port}", "name": "l1", **options})  # type: ignore[arg-type]


def relay(size: int = 100) -> Relay:
    return Relay("cloud", "graz", 16, 3, b"x" * size)


@pytest.fixture
async def cloud() -> AsyncIterator[LinkNode]:
    async with LinkNode("cloud") as node:
        await node.listen()
        yield node


async def both_up(*nodes: LinkNode, links: int = 1) -> None:
    await until(lambda: all(len(node.overlay.up) == links for node in nodes))


async def test_both_directions_use_one_connection(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port, cost=7),)) as graz:
        await both_up(cloud, graz)
        [up], [down] = graz.overlay.up, cloud.overlay.up
        assert (up.node, up.site, up.epoch, up.link, up.cost) == ("cloud", "site-cloud", "epoch-cloud", "l1", 7)
        assert (down.node, down.link, down.cost, down.boot) == ("graz", "l1", 7, "boot-graz-1")
        assert up.send(relay(), 3) and down.send(Gossip([b"state"]), 1)
        await until(lambda: cloud.overlay.frames and graz.overlay.frames)
        assert cloud.overlay.frames == [("graz", relay())]
        assert graz.overlay.frames == [("cloud", Gossip([b"state"]))]
        await until(lambda: up.rtt_s is not None and up.rtt_s < 0.5)
        await until(lambda: up.skew_ms is not None and abs(up.skew_ms) < 1_000)


async def test_many_large_frames_arrive_in_order_and_back_pressure_holds(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        sent = 0
        while sent < 300:
            frame = Relay("cloud", "graz", 16, 3, sent.to_bytes(4, "big") * 65_536)
            if graz.overlay.up[0].send(frame, 3):
                sent += 1
            else:
                await asyncio.sleep(0)
        await until(lambda: len(cloud.overlay.frames) == 300)
        numbers = [int.from_bytes(frame.body[:4], "big") for _, frame in cloud.overlay.frames
                   if isinstance(frame, Relay)]
        assert numbers == list(range(300))
        assert graz.overlay.up[0].backlog_bytes == 0


async def test_a_frame_of_the_largest_size_passes_and_a_larger_one_is_counted(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        largest = cloud.manager.limits.frame_bytes_max
        assert not graz.overlay.up[0].send(relay(largest), 3)
        assert graz.overlay.up[0].send(relay(largest - 100), 3)
        await until(lambda: cloud.overlay.frames)
        assert graz.link("l1")["dropped_frames"] == 1


async def test_compression_is_used_when_both_want_it(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port, compress=True),)) as graz:
        await both_up(cloud, graz)
        assert graz.link("l1")["compressed"] and cloud.link("graz:l1")["compressed"]
        for _ in range(20):
            graz.overlay.up[0].send(relay(100_000), 3)
        await until(lambda: len(cloud.overlay.frames) == 20)
        assert all(frame == relay(100_000) for _, frame in cloud.overlay.frames)


async def test_several_links_between_the_same_nodes(cloud: LinkNode) -> None:
    links = (to(cloud.port, name="fibre"), to(cloud.port, name="radio", cost=50))
    async with LinkNode("graz", links=links) as graz:
        await both_up(cloud, graz, links=2)
        assert {up.link: up.cost for up in cloud.overlay.up} == {"fibre": 1, "radio": 50}


async def test_a_cut_link_is_dialled_again_at_once(cloud: LinkNode) -> None:
    """A dial that waits for its back-off would come too late for the deadline."""
    patient = fast_limits(retry_min_s=600.0, retry_max_s=600.0)
    async with TcpProxy(cloud.port) as proxy, LinkNode("graz", links=(to(proxy.port),), limits=patient) as graz:
        await both_up(cloud, graz)
        for cuts in range(1, 4):
            await asyncio.sleep(0.12)       # good_after_s of these tests
            assert proxy.cut() == 1
            await until(lambda cuts=cuts: len(graz.overlay.downs) == len(cloud.overlay.downs) == cuts)
            await both_up(cloud, graz)
        assert graz.link("l1")["connects"] == 4


async def test_a_link_waits_for_a_node_that_is_away_and_finds_it(cloud: LinkNode) -> None:
    async with TcpProxy(cloud.port) as proxy:
        proxy.refuse()
        async with LinkNode("graz", links=(to(proxy.port),)) as graz:
            await until(lambda: proxy.refused >= 3)
            assert graz.link("l1")["state"] == "down" and graz.link("l1")["last_error"]
            proxy.resume()
            await both_up(cloud, graz)


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_a_connection_that_does_not_get_on_is_shown_as_blocked(direction: str) -> None:
    limits = fast_limits(blocked_after_s=0.3, stale_after_s=600.0)
    async with LinkNode("cloud", limits=limits) as cloud:
        await cloud.listen()
        async with TcpProxy(cloud.port) as proxy, LinkNode("graz", links=(to(proxy.port),), limits=limits) as graz:
            def states() -> tuple[str, str]:
                return graz.link("l1")["state"], cloud.link("graz:l1")["state"]

            await both_up(cloud, graz)
            proxy.stall(direction)
            await until(lambda: "blocked" in states())
            proxy.resume()
            await until(lambda: states() == ("up", "up"))
            assert graz.overlay.downs == cloud.overlay.downs == []


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_a_connection_that_is_dead_one_way_is_noticed_and_replaced(direction: str) -> None:
    limits = fast_limits(stale_after_s=0.8)
    async with LinkNode("cloud", limits=limits) as cloud:
        await cloud.listen()
        async with TcpProxy(cloud.port) as proxy, LinkNode("graz", links=(to(proxy.port),), limits=limits) as graz:
            await both_up(cloud, graz)
            proxy.stall(direction)
            await until(lambda: graz.overlay.downs and cloud.overlay.downs)
            proxy.cut()
            proxy.resume()
            await both_up(cloud, graz)


async def test_a_stale_connection_is_taken_over_by_the_same_process(cloud: LinkNode) -> None:
    """The network broke without a word: the acceptor still holds the old connection when the dialler comes again."""
    async with LinkNode("lyon", limits=fast_limits(stale_after_s=600.0)) as lyon:
        await lyon.listen()
        async with TcpProxy(lyon.port) as proxy:
            graz = LinkNode("graz", links=(to(proxy.port),))
            await graz.__aenter__()
            await both_up(lyon, graz)
            proxy.stall()
            graz.die()
            async with LinkNode("graz", links=(to(lyon.port),)) as same:
                await both_up(lyon, same)
                assert lyon.overlay.downs == [("graz", "replaced by a newer connection")]
            await graz.stop()


async def test_a_restarted_node_takes_over_when_its_past_does_not_answer() -> None:
    async with LinkNode("lyon", limits=fast_limits(blocked_after_s=0.3, stale_after_s=600.0)) as lyon:
        await lyon.listen()
        async with TcpProxy(lyon.port) as proxy:
            graz = LinkNode("graz", links=(to(proxy.port),), seed=1)
            await graz.__aenter__()
            await both_up(lyon, graz)
            proxy.stall()                   # power fails: nobody says goodbye
            graz.die()
            async with LinkNode("graz", links=(to(lyon.port),), seed=2) as again:
                await until(lambda: again.overlay.up)
                assert [up.boot for up in lyon.overlay.up] == ["boot-graz-2"]
            await graz.stop()


async def test_two_live_nodes_of_one_name_are_told_apart(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),), seed=1) as graz:
        await both_up(cloud, graz)
        for link in ("l1", "l2"):
            async with LinkNode("graz", links=(to(cloud.port, name=link),), seed=2) as impostor:
                await until(lambda impostor=impostor, link=link:
                            "duplicate" in (impostor.link(link)["last_error"] or ""))
        assert [up.boot for up in cloud.overlay.up] == ["boot-graz-1"]
        assert graz.overlay.downs == [] and cloud.overlay.downs == []
        assert cloud.manager.counters["ended.duplicate_name"] >= 2


async def test_our_own_name_at_the_other_end_is_refused(cloud: LinkNode) -> None:
    async with LinkNode("cloud", links=(to(cloud.port),), boot="other") as twin:
        await until(lambda: "duplicate" in (twin.link("l1")["last_error"] or ""))
        assert cloud.overlay.up == []
    cloud.apply((to(cloud.port, name="mirror"),))
    await until(lambda: "itself" in (cloud.link("mirror")["last_error"] or ""))
    assert cloud.overlay.up == []


async def test_the_overlay_may_refuse_a_neighbour(cloud: LinkNode) -> None:
    cloud.overlay.refuse = lambda neighbour: Refusal(Reason.CONFLICT, f"{neighbour.node} is a name that lyon knows")
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await until(lambda: "lyon knows" in (graz.link("l1")["last_error"] or ""))
        assert graz.overlay.up == [] and cloud.overlay.up == [] and cloud.overlay.downs == []


async def test_a_liar_is_sent_away_with_a_reason(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        cloud.overlay.up[0].lied("its source cannot be reached through it")
        await until(lambda: graz.overlay.downs)
        assert graz.overlay.downs[0] == ("cloud", "its source cannot be reached through it")
        assert cloud.manager.counters["ended.lied"] == 1


async def test_pause_resume_from_the_dialling_side(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        assert graz.manager.pause("l1") and not graz.manager.pause("nobody")
        await until(lambda: graz.overlay.downs and cloud.overlay.downs)
        assert cloud.overlay.downs == [("graz", "paused")]
        assert graz.link("l1")["state"] == "paused" and cloud.link("graz:l1")["state"] == "down"
        assert graz.manager.resume("l1")
        await both_up(cloud, graz)


async def test_pause_from_the_accepting_side_keeps_the_dialler_out(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        cloud.manager.pause("graz:l1")
        await until(lambda: "paused" in (graz.link("l1")["last_error"] or ""))
        assert cloud.link("graz:l1")["state"] == "paused" and graz.link("l1")["state"] == "down"
        cloud.manager.resume("graz:l1")
        graz.manager.kick("l1")
        graz.manager.resume("l1")
        await both_up(cloud, graz)


async def test_a_link_that_is_paused_in_the_file_is_not_dialled(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port, paused=True),)) as graz:
        await asyncio.sleep(0.2)
        assert graz.manager.counters["dialled"] == 0 and graz.link("l1")["state"] == "paused"


async def test_drain_delivers_what_is_queued_and_then_pauses(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        for _ in range(50):
            graz.overlay.up[0].send(relay(100_000), 3)
        assert graz.manager.drain("l1")
        assert graz.overlay.downs == [("cloud", "draining")]
        await until(lambda: cloud.overlay.downs)
        assert len(cloud.overlay.frames) == 50
        assert graz.link("l1")["state"] == "paused"


async def test_a_kicked_link_comes_back(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
        assert cloud.manager.kick("graz:l1")
        await until(lambda: graz.overlay.downs == [("cloud", "closed by an operator")])
        await both_up(cloud, graz)


async def test_a_stopping_node_says_so(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port),)) as graz:
        await both_up(cloud, graz)
    await until(lambda: cloud.overlay.downs == [("graz", "the node stops")])


async def test_the_expected_name_of_a_neighbour_is_checked(cloud: LinkNode) -> None:
    async with LinkNode("graz", links=(to(cloud.port, node="lyon"),)) as graz:
        await until(lambda: graz.link("l1")["last_error"] == "expected node lyon")
        await until(lambda: cloud.overlay.downs)        # the other end hears of it a little later
        assert graz.overlay.up == []


async def test_a_reload_touches_only_what_changed(cloud: LinkNode) -> None:
    a, b = to(cloud.port, name="a"), to(cloud.port, name="b")
    async with LinkNode("graz", links=(a, b)) as graz:
        await both_up(cloud, graz, links=2)
        kept = next(up for up in graz.overlay.up if up.link == "a")
        graz.apply((a, to(cloud.port, name="c")))
        await until(lambda: {up.link for up in graz.overlay.up} == {"a", "c"})
        assert graz.overlay.downs == [("cloud", "removed")] and kept in graz.overlay.up
        graz.apply((to(cloud.port, name="a", rate_bytes=1_000_000, priority=9), to(cloud.port, name="c", cost=9)))
        await until(lambda: {up.cost for up in graz.overlay.up} == {1, 9})
        assert kept in graz.overlay.up and graz.link("a")["rate_bytes"] == 1_000_000
        graz.apply((to(cloud.port, name="a", paused=True), to(cloud.port, name="c", cost=9)))
        await until(lambda: graz.link("a")["state"] == "paused" and len(cloud.overlay.up) == 1)
        graz.apply((to(cloud.port, name="a"), to(cloud.port, name="c", cost=9)))
        await both_up(cloud, graz, links=2)


async def test_rules_of_both_sides_reach_the_overlay() -> None:
    peer = LinkPeerTable("graz", token="t" * 16, exports=("a/#",), imports=("b/#",), prefix="sites/graz")
    async with LinkNode("cloud", peers=(peer,)) as cloud:
        await cloud.listen()
        table = to(cloud.port, token="t" * 16, exports=("plant/#",), imports=(), prefix="cloud")
        async with LinkNode("graz", links=(table,)) as graz:
            await both_up(cloud, graz)
            [up], [down] = graz.overlay.up, cloud.overlay.up
            assert (up.exports, up.imports, up.prefix) == (("plant/#",), (), "cloud")
            assert (down.exports, down.imports, down.prefix) == (("a/#",), ("b/#",), "sites/graz")


async def test_a_reload_of_who_may_link_ends_the_links_of_those_who_may_no_longer() -> None:
    graz_peer, lyon_peer = LinkPeerTable("graz", token="g" * 16), LinkPeerTable("lyon", token="l" * 16)
    async with LinkNode("cloud", peers=(graz_peer, lyon_peer)) as cloud:
        await cloud.listen()
        async with LinkNode("graz", links=(to(cloud.port, token="g" * 16),)) as graz, \
                LinkNode("lyon", links=(to(cloud.port, token="l" * 16),)) as lyon:
            await both_up(graz, lyon)
            kept = next(up for up in cloud.overlay.up if up.node == "lyon")
            cloud.apply((), (lyon_peer,))
            await until(lambda: "not allowed" in (graz.link("l1")["last_error"] or ""))
            assert cloud.overlay.up == [kept] and lyon.overlay.downs == []
            assert [link["id"] for link in cloud.manager.snapshot()] == ["lyon:l1"]


async def test_links_that_come_in_are_bounded_and_forgotten_ones_make_room() -> None:
    async with LinkNode("cloud", limits=fast_limits(links_max=2)) as cloud:
        await cloud.listen()
        async with LinkNode("graz", links=tuple(to(cloud.port, name=name) for name in "abc")) as graz:
            await until(lambda: len(cloud.overlay.up) == 2)
            await until(lambda: any(link["last_error"] == "too many links" for link in graz.manager.snapshot()))
        await until(lambda: not cloud.overlay.up)
        async with LinkNode("lyon", links=(to(cloud.port),)) as lyon:
            await until(lambda: lyon.overlay.up)
            assert len(cloud.manager.snapshot()) == 2
