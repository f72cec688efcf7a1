"""One seed: a mesh, its programs, faults and, in the end, the question whether anything was lost.

    build ─► calm ─► (trouble ─► calm) × 2..3 ─► heal everything ─► wait until all is where it belongs ─► check

In trouble everything happens at once. In calm the network is whole for CALM_S, after which interest must have got
through to everybody: from there on wishes are certain.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from routing.settings import StreamSettings
from routing.topic import filter_covers
from tests.mesh.sim.clients import COUNTS_S, Book, DurableReader, Listener, Publisher
from tests.mesh.sim.harvest import check_reader, harvest
from tests.mesh.sim.network import SimLink
from tests.mesh.sim.node import SimNode
from tests.mesh.sim.world import World
from tests.support.checker import Figures
from tests.support.mesh_checker import ALWAYS, NEVER, Wish, check_mesh

TOPOLOGIES = ("line", "star", "ring", "full")
CALM_S = 12.0
SLACK_S = 4.5               # what was wanted of a node while it was away is asked for by the time of day; clocks differ
CONVERGE_S = 180.0          # virtual, after everything is whole again
SETTLE_S = 6.0              # without any change, then what is there is looked at
FILTERS = ("#", "s/#", "s/0/#", "s/+/1", "s/1/2", "s/orders/#", "s/state/+", "live/#", "live/1")
NARROW = ("s/0/#", "s/+/1", "s/1/2", "s/2/+", "s/orders/#", "s/orders/1", "s/9/+", "s/8/#", "s/7/2", "s/6/+/2")


@dataclass
class Result:
    seed: int
    shape: str
    figures: Figures
    converged_s: float
    virtual_s: float
    counts: dict[str, int] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.figures.clean


class Scenario:
    """Everything of one run."""

    def __init__(self, seed: int, *, nodes: int | None = None, topology: str | None = None) -> None:
        self.world = World(seed)
        rng = self.world.plan
        self.book = Book()
        self.count = nodes or rng.choice((2, 2, 3, 3, 3, 4, 4, 5))
        self.topology = topology or rng.choice(TOPOLOGIES)
        self.wipes = 0
        self.clock_was_set = False              # since the last calm
        self.kinds: dict[str, int] = {}
        self.nodes = [self._make_node(number) for number in range(self.count)]
        self.links = [self._make_link(*pair) for pair in pairs(self.topology, self.count)]
        self.publishers = {node.name: Publisher(self.book, node) for node in self.nodes}
        self.listeners = {node.name: Listener(self.book, node) for node in self.nodes}
        self.readers: list[DurableReader] = []

    def _make_node(self, number: int) -> SimNode:
        rng = self.world.plan
        streams = [StreamSettings("events", ("s/#",), partitions=rng.choice((1, 1, 2, 3)),
                                  segment_bytes=rng.choice((20_000, 256 * 1024 * 1024)))]
        if rng.random() < 0.4:
            streams.append(StreamSettings("orders", ("s/orders/#",), partitions=rng.choice((1, 2))))
        replicate = [(rng.choice(FILTERS[:6]), rng.choice(("earliest", "earliest", "latest")))
                     for _ in range(rng.choice((0, 1, 1, 2)))]
        replicate = list(dict(replicate).items())
        node = SimNode(self.world, f"n{number}", streams, replicate)
        for pattern, start in replicate:
            certain = ALWAYS if start == "earliest" else NEVER
            self.book.history.wishes.append(Wish(node.name, pattern, since=ALWAYS if start == "earliest" else 0.0,
                                                 certain=certain))
        return node

    def _make_link(self, a: int, b: int) -> SimLink:
        rng = self.world.plan
        link = SimLink(self.world, self.nodes[a], self.nodes[b], cost=rng.choice((1, 1, 1, 5)),
                       delay_s=rng.choice((0.0005, 0.005, 0.02, 0.25)))
        self.nodes[a].links.append(link)
        self.nodes[b].links.append(link)
        return link

    # --- the run -----------------------------------------------------------------------------------------------------
    def run(self) -> Result:
        rng = self.world.plan
        for node in self.nodes:
            self.world.after(rng.uniform(0.0, 2.0), node.start)
        self.world.run_for(2.5)
        for _ in range(rng.randint(1, 4)):
            self._wish()
        self._calm()
        for _ in range(rng.choice((2, 2, 3))):
            self._trouble(rng.uniform(6.0, 25.0))
            self._calm()
        return self._finish()

    def _trouble(self, seconds: float) -> None:
        world, rng = self.world, self.world.plan
        end_s = world.now_s + seconds
        faults = rng.choice((0.0, 0.15, 0.3, 0.6))
        if rng.random() < 0.4:
            self._noise()
        while world.now_s < end_s:
            world.run_for(rng.expovariate(1.5))
            for _ in range(rng.choice((1, 1, 2, 3))):
                self._publish()
            if rng.random() < 0.08:
                self._wish()
            if rng.random() < faults:
                self._fault()

    def _calm(self) -> None:
        """Whole again, and long enough so that everybody knows what everybody wants."""
        self._heal()
        self.world.run_for(CALM_S)
        here = {node.name for node in self.nodes if node.alive}     # not who died of what was to come when it got calm
        for wish in self.book.history.wishes:
            if wish.certain == NEVER and wish.until == NEVER and wish.node in here:
                wish.certain = ALWAYS if wish.since == ALWAYS else self.world.now_s
                if self.clock_was_set:          # it was asked for by the time of day, or by a skew of before
                    wish.counts = NEVER
        self.clock_was_set = False

    def _heal(self) -> None:
        self.world.note("calm")
        for link in self.links:
            link.calm()
        for node in self.nodes:
            node.disk_s = 0.003
            node.disk.loss_at = None
            node.files.faults.clear()
            if not node.alive:
                node.start()

    def _finish(self) -> Result:
        self._heal()
        world = self.world
        start_s = world.now_s
        while True:
            world.run_until(self._settled(), limit_s=CONVERGE_S, step_s=0.5)
            figures = self._check()
            incomplete = figures.faults["LOST"] or figures.faults["RETAINED"] or figures.faults["CONSUMER"]
            if not incomplete or world.now_s - start_s > CONVERGE_S:
                break
        converged_s = world.now_s - start_s
        if figures.clean:
            world.run_for(30.0)                 # what is doubled late, or unasked, has had its time to come
            figures = self._check()
        counts = dict(self.kinds)
        for link in self.links:
            for name, count in link.counts.items():
                counts[f"link {name}"] = counts.get(f"link {name}", 0) + count
            for lie in link.lies:
                figures.add("LIE", lie)
        shape = f"{self.topology} of {self.count}"
        return Result(world.seed, shape, figures, converged_s, world.now_s, counts, world.journal)

    def _check(self) -> Figures:
        history = harvest(self)
        history.slack = SLACK_S if history.clocks_true else NEVER
        figures = check_mesh(history)
        for reader in self.readers:
            check_reader(reader, figures, history.logs[reader.node.name])
        return figures

    def _settled(self) -> Callable[[], bool]:
        """A condition: nothing has been stored anywhere for SETTLE_S."""
        last: list[object] = [None, self.world.now_s]

        def settled() -> bool:
            now = [partition.end_offset for node in self.nodes for partition in node.store.partitions
                   if not partition.is_internal]
            if now != last[0]:
                last[:] = [now, self.world.now_s]
            return self.world.now_s - last[1] >= SETTLE_S

        return settled

    # --- what programs do --------------------------------------------------------------------------------------------
    def _publish(self) -> None:
        rng = self.world.plan
        publisher = self.publishers[rng.choice(self.nodes).name]
        kind = rng.random()
        if kind < 0.15:
            publisher.publish([f"s/state/{rng.randrange(4)}" for _ in range(rng.randint(1, 2))], retain=True)
        elif kind < 0.25:
            publisher.publish([f"live/{rng.randrange(3)}"])
        elif kind < 0.30:
            publisher.publish([_topic(rng) for _ in range(rng.randint(20, 80))], filler=rng.choice((0, 300)))
        else:
            publisher.publish([_topic(rng) for _ in range(rng.randint(1, 6))])

    def _wish(self) -> None:
        rng = self.world.plan
        node = rng.choice(self.nodes)
        listener = self.listeners[node.name]
        kind = rng.random()
        if kind < 0.25 and len(self.readers) < 4:
            self._consume(node, rng.choice(FILTERS[:7]), rng.choice(("latest", "latest", "earliest")))
        elif kind < 0.45 and listener.wishes:
            pattern = rng.choice(sorted(listener.wishes))
            self.world.note(f"{node.name}: unsubscribe {pattern}")
            listener.unsubscribe(pattern)
        else:
            pattern = rng.choice(FILTERS)
            self.world.note(f"{node.name}: subscribe {pattern}")
            listener.subscribe(pattern)

    def _consume(self, node: SimNode, pattern: str, start: str) -> None:
        name = f"c{len(self.readers)}"
        self.world.note(f"{node.name}: consumer {name} on {pattern} from {start}")
        if node.alive:
            self.readers.append(DurableReader(self.book, node, name, pattern, start))

    def _wish_for_more(self, node: SimNode, others: list[SimNode]) -> None:
        """Something that nobody there wants yet, if there is such a thing; the others have it soon."""
        rng = self.world.plan
        wanted = [wish.pattern for wish in self.book.history.wishes if wish.node == node.name and wish.until == NEVER]
        new = [pattern for pattern in NARROW if not any(filter_covers(wide, pattern) for wide in wanted)]
        if not new:
            return
        pattern = rng.choice(new)
        if rng.random() < 0.5 and len(self.readers) < 8:
            self._consume(node, pattern, "latest")
        else:
            self.world.note(f"{node.name}: subscribe {pattern}")
            self.listeners[node.name].subscribe(pattern)
        topic = pattern.replace("+", "1").replace("#", "2")
        for delay_s in (0.0, COUNTS_S, 1.5 * COUNTS_S, 2 * COUNTS_S):
            publisher = self.publishers[rng.choice(others).name]
            self.world.after(delay_s, lambda publisher=publisher: publisher.publish([_topic(rng), topic]))

    # --- faults ------------------------------------------------------------------------------------------------------
    def _fault(self) -> None:
        rng = self.world.plan
        kind = rng.choice((
            self._kill, self._kill, self._lights_out, self._wipe, self._cut, self._cut, self._cut, self._pull,
            self._block_both, self._block_one, self._noise, self._slow, self._slow_disk, self._full_disk, self._jump,
            self._calm_links, self._wish_away, self._wish_away))
        name = kind.__name__.strip("_").replace("_", " ")
        if kind() is not False:
            self.kinds[name] = self.kinds.get(name, 0) + 1

    def _kill(self) -> None:
        node = self.world.plan.choice(self.nodes)
        if node.alive:
            self.world.note(f"kill {node.name}")
            node.kill()
            self._gone(node)

    def _lights_out(self) -> None:
        """Power loss in the middle of an operation of the disk, soon."""
        node = self.world.plan.choice(self.nodes)
        if not node.alive:
            return
        self.world.note(f"power loss at {node.name} soon")
        life = node.life
        node.disk.loss_at = self.world.plan.randint(1, 40)

        def at_last() -> None:
            if node.life == life and node.alive:
                node.lights_out()
            self._gone(node)

        self.world.after(1.0, at_last)

    def _gone(self, node: SimNode) -> None:
        self.listeners[node.name].node_gone()
        life = node.life
        self.world.after(self.world.plan.choice((0.1, 1.0, 5.0, 20.0)),
                         lambda: node.start() if node.life == life and not node.alive else None)

    def _wipe(self) -> bool:
        """At most once a run, and not the only node that holds something: what it has published is gone with it."""
        node = self.world.plan.choice(self.nodes)
        if self.wipes or self.world.plan.random() < 0.6 or not node.alive:
            return False
        self.wipes += 1
        self.world.note(f"wipe {node.name}")
        node.kill()
        node.wipe()
        now_s = self.world.now_s
        for published in self.book.history.published.values():
            if published.node == node.name:
                published.expendable = True
        for reader in self.readers:
            if reader.node is node:
                reader.node_wiped()
        for pattern, start in node.replicate:
            if start == "latest":
                for wish in self.book.history.wishes:
                    if (wish.node, wish.pattern) == (node.name, pattern) and wish.until == NEVER:
                        wish.until = now_s
                self.book.history.wishes.append(Wish(node.name, pattern, since=now_s, certain=NEVER))
        self._gone(node)
        return True

    def _cut(self) -> None:
        link = self.world.plan.choice(self.links)
        self.world.note(f"cut {link.name}")
        link.cut()

    def _pull(self) -> None:
        """The link stays down for a while; in a ring everything moves to the other path."""
        link = self.world.plan.choice(self.links)
        self.world.note(f"pull {link.name}")
        link.closed = True
        link.cut()
        self.world.after(self.world.plan.uniform(0.5, 15.0), lambda: setattr(link, "closed", False))

    def _wish_away(self) -> None:
        """A link goes, either way or one way, and while it is away somebody at one of its ends wants something new."""
        rng = self.world.plan
        link = rng.choice(self.links)
        node, other = rng.choice(((link.a, link.b), (link.b, link.a)))
        how = rng.choice(("pulled", "blocked", "blocked one way"))
        self.world.note(f"{link.name} is {how}, a wish at {node.name} soon")
        if how == "pulled":
            link.closed = True
            link.cut()
        else:
            link.block(*((node, other) if how == "blocked" else (node,)))

        def back() -> None:
            link.closed = False
            link.block()

        self.world.after(rng.choice((0.05, rng.uniform(0.1, 6.0))), lambda: self._wish_for_more(node, [other]))
        self.world.after(rng.uniform(3.0, 15.0), back)

    def _block_both(self) -> None:
        link = self.world.plan.choice(self.links)
        self.world.note(f"block {link.name}")
        link.block(link.a, link.b)
        self.world.after(self.world.plan.uniform(0.5, 15.0), link.block)

    def _block_one(self) -> None:
        link = self.world.plan.choice(self.links)
        sender = self.world.plan.choice((link.a, link.b))
        self.world.note(f"block {link.name} from {sender.name}")
        link.block(sender)
        self.world.after(self.world.plan.uniform(0.5, 15.0), link.block)

    def _noise(self) -> None:
        rng = self.world.plan
        for link in self.links:
            link.loss = rng.choice((0.0, 0.02, 0.2))
            link.doubling = rng.choice((0.0, 0.05, 0.3))
            link.reorder = rng.choice((0.0, 0.05, 0.3))

    def _slow(self) -> None:
        rng = self.world.plan
        link = rng.choice(self.links)
        self.world.note(f"slow {link.name}")
        link.bytes_per_s = rng.choice((4_000.0, 20_000.0, 100_000.0))
        link.queue_bytes_max = rng.choice((20_000, 200_000))
        link.delay_s = rng.choice((0.005, 0.25, 0.5))

    def _slow_disk(self) -> None:
        self.world.plan.choice(self.nodes).disk_s = self.world.plan.choice((0.05, 0.5))

    def _full_disk(self) -> None:
        node, rng = self.world.plan.choice(self.nodes), self.world.plan
        self.world.note(f"the disk of {node.name} is full for a while")
        node.fill_disk(rng.randint(1, 12), rng.randint(1, 5))

    def _jump(self) -> None:
        node = self.world.plan.choice(self.nodes)
        jump_ms = self.world.plan.choice((-3_600_000, -5_000, 5_000, 3_600_000))
        self.world.note(f"the wall clock of {node.name} jumps by {jump_ms} ms")
        node.wall_error_ms += jump_ms
        self.book.history.clocks_true = False
        self.clock_was_set = True

    def _calm_links(self) -> None:
        for link in self.links:
            link.calm()


def _topic(rng) -> str:
    return f"s/orders/{rng.randrange(3)}" if rng.random() < 0.2 else f"s/{rng.randrange(3)}/{rng.randrange(3)}"


def pairs(topology: str, count: int) -> list[tuple[int, int]]:
    """Which nodes are linked."""
    line = [(number, number + 1) for number in range(count - 1)]
    if topology == "star":
        return [(0, number) for number in range(1, count)]
    if topology == "ring" and count > 2:
        return [*line, (count - 1, 0)]
    if topology == "full":
        return [(one, other) for one in range(count) for other in range(one + 1, count)]
    return line
