"""Plain counters of one MQTT server. Folded in once per batch; the metrics and $SYS read them."""
from __future__ import annotations

from collections import Counter

from protocols.mqtt.codec.packets import NAMES


class Counters:
    """Everything is a total since the start, but for the gauges that the server fills in on snapshot()."""

    __slots__ = ("bytes_in", "bytes_out", "connections_opened", "dropped", "packets_in", "packets_out", "publishes_in",
                 "publishes_out", "refused", "violations", "wills_published")

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections_opened = 0
        self.publishes_in = 0
        self.publishes_out = 0
        self.wills_published = 0
        self.packets_in: list[int] = [0] * 16           # by packet type
        self.packets_out: list[int] = [0] * 16
        self.refused: Counter[int] = Counter()          # CONNECTs by reason code
        self.violations: Counter[int] = Counter()       # connections that we closed, by reason code
        self.dropped: Counter[str] = Counter()          # events not delivered or not taken, by reason

    def snapshot(self) -> dict[str, int]:
        """Flat names for the metrics: "packets_in.publish", "refused.0x87" and so on."""
        values = {name: getattr(self, name) for name in (
            "bytes_in", "bytes_out", "connections_opened", "publishes_in", "publishes_out", "wills_published")}
        for name, packets in (("packets_in", self.packets_in), ("packets_out", self.packets_out)):
            values.update({f"{name}.{NAMES[kind]}": count for kind, count in enumerate(packets) if count})
        for name, codes in (("refused", self.refused), ("violations", self.violations)):
            values.update({f"{name}.0x{code:02x}": count for code, count in codes.items()})
        values.update({f"dropped.{reason}": count for reason, count in self.dropped.items()})
        return values
