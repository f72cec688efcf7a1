"""python -m bench.usage [pairs]: what the usage record costs of QoS 1, in CPU of the node for each message.

Two nodes at the same time, one as it is and one from whose code the lines of the record are taken out when it starts;
they are given the same work in turns, first the one, then the other, then the other way round. Printed is the median of
the ratios of neighbouring turns: 1.01 or less is the aim (docs/administration.md).
"""
from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from bench.brokers.broker import Meshgate
from bench.load.clients import Publisher
from bench.load.load import Flood
from bench.rows.mqtt import QOS1_UNDER_WAY, WINDOW

PAIRS = 40
# Name, publishers, messages that each has under way, messages of a turn: short, so that both meet the same
# machine. The last one is the worst for the record: no two messages of a topic come in one read.
WORK = (("one publisher", 1, WINDOW, 60_000), ("20 publishers", 20, WINDOW, 60_000),
        ("100 publishers with one message each under way", 100, 1, 6_000))
# As it is called where a node starts: Router.publish() and admit() compiled again without the lines of the record.
WITHOUT = '''
import inspect, sys, textwrap
from routing import router
from routing.rights import usage

def bare(method):
    source = textwrap.dedent(inspect.getsource(method))
    kept, gone, lines = [], 0, source.splitlines()
    for line, following in zip(lines, [*lines[1:], ""]):
        if any("deeds" in one or "self.usage." in one for one in (line, following if line.strip() == "try:" else "")):
            gone += 1
        elif line.strip().startswith("except KeyError:"):
            gone += 1
        else:
            kept.append(line)
    assert gone == 4, (method, gone)
    space = dict(vars(router))
    exec("from __future__ import annotations\\n" + "\\n".join(kept), space)
    return space[method.__name__]

for name in ("publish", "admit"):
    setattr(router.Router, name, bare(getattr(router.Router, name)))
usage.Usage.note = lambda self, *what: None
usage.Usage.tick = lambda self, now_s: None
'''


class Bare(Meshgate):
    name = "without"

    def command(self) -> list[str]:
        command = super().command()
        return [command[0], "-c", WITHOUT + command[2], *command[3:]]


def turn(broker: Meshgate, publishers: list[Publisher], events: int) -> float:
    """CPU of the node in µs per message."""
    before_ns = cpu_ns(broker)
    outcome = Flood(broker, publishers, [], QOS1_UNDER_WAY).run(events_max=events)
    return (cpu_ns(broker) - before_ns) / max(1, outcome.sent) / 1e3


def cpu_ns(broker: Meshgate) -> int:
    """Of all threads of the node. The ticks of /proc/PID/stat are too coarse for one per cent."""
    assert broker.process is not None
    threads = Path(f"/proc/{broker.process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads)


def main(pairs: int) -> None:
    for about, count, window, events in WORK:
        with tempfile.TemporaryDirectory() as root:
            nodes = [Meshgate(Path(root)), Bare(Path(root))]
            for node in nodes:
                node.start()
            try:
                clients = {node.name: [Publisher(node.port, f"p{number}", [f"bench/usage/{number}"], qos=1, version=5,
                                                 window=window) for number in range(count)] for node in nodes}
                for node in nodes:
                    turn(node, clients[node.name], events)              # warm
                ratios, costs = [], []
                for number in range(pairs):
                    order = nodes if number % 2 else nodes[::-1]
                    cost = {node.name: turn(node, clients[node.name], events) for node in order}
                    ratios.append(cost["meshgate"] / cost["without"])
                    costs.append(cost["meshgate"])
                spread = statistics.quantiles(ratios, n=4)
                print(f"{about}: {statistics.median(costs):.2f} µs per message, with the record "
                      f"{statistics.median(ratios):.4f} of without (quartiles {spread[0]:.4f} to {spread[2]:.4f})",
                      flush=True)
            finally:
                for node in nodes:
                    node.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
