"""A Quix Streams app, with its transactions: counts the words of one topic into another. Run by the interpreter of
.peers/quix:  quix_app.py BOOTSTRAP GROUP SOURCE TARGET STATE_FOLDER
"""
import sys

from quixstreams import Application

bootstrap, group, source, target, folder = sys.argv[1:]
app = Application(broker_address=bootstrap, consumer_group=group, processing_guarantee="exactly-once",
                  auto_offset_reset="earliest", state_dir=folder, commit_interval=0.5, loglevel="INFO",
                  consumer_extra_config={"session.timeout.ms": 6_000, "heartbeat.interval.ms": 500},
                  producer_extra_config={"transaction.timeout.ms": 10_000})
words = app.topic(source, value_deserializer="str")
counts = app.topic(target, key_serializer="bytes", value_serializer="str")


def count(value, state):
    seen = state.get("count", 0) + 1
    state.set("count", seen)
    return str(seen)


stream = app.dataframe(words).apply(count, stateful=True).to_topic(counts)
app.run()
