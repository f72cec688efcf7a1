"""Making topics: on a client's wish (CreateTopics) or by use (Metadata). Used by the APIs of topics and metadata."""
from __future__ import annotations

from collections.abc import Mapping

from protocols.kafka.runtime.call import Call
from protocols.kafka.topics.names import captures, mesh_topic
from routing.errors import Refusal
from routing.settings import StreamSettings
from routing.streams import Stream


async def create(call: Call, name: str, configs: Mapping[str, str | None], *, partitions: int | None
                 ) -> Stream | Refusal:
    """Make a stream for a topic and wait until it is durable. Rights and names are the caller's to check."""
    router = call.broker.router
    count = partitions or call.broker.settings.default_partitions
    router.apply_streams([StreamSettings(name, captures(name), count, topic=mesh_topic(name))])
    return router.streams.by_name[name]
