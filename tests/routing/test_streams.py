"""Streams: which one captures a topic, and what it costs to add one."""
import random

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.event import Event
from routing.settings import StreamSettings
from routing.topic import filter_matches, specificity
from tests.support.routing import ANA, Desk

LEVELS = ("a", "b", "+")


def random_filter(rng):
    levels = [rng.choice(LEVELS) for _ in range(rng.randrange(1, 4))]
    return "/".join(levels) + ("/#" if rng.random() < 0.3 else "")


def by_hand(settings, topic):
    """The most specific capture; of equals that of the stream named first."""
    best, best_rank = None, ()
    for stream in settings:
        for pattern in stream.capture:
            if filter_matches(pattern, topic) and (best is None or specificity(pattern) > best_rank):
                best, best_rank = stream.name, specificity(pattern)
    return best


@pytest.mark.parametrize("seed", range(10))
def test_the_most_specific_capture_wins_and_of_equals_the_first(tmp_path, seed):
    rng = random.Random(seed)
    settings = [StreamSettings(f"s{number}", tuple({random_filter(rng) for _ in range(3)})) for number in range(6)]
    desk = Desk(tmp_path, settings)
    for step in range(3):
        for _ in range(60):
            topic = "/".join(rng.choice("abc") for _ in range(rng.randrange(1, 5)))
            found = desk.router.streams.capture(topic)
            assert (found.name if found else None) == by_hand(settings, topic), topic
        if step == 0:                                   # one changes, one is new
            settings = [*settings, StreamSettings("new", ("a/#", random_filter(rng)))]
            settings[2] = StreamSettings("s2", (random_filter(rng), "b/b/b"))
        desk.router.apply_streams(settings)
    desk.close()


def test_adding_a_stream_asks_each_consumer_about_that_stream_only(tmp_path, monkeypatch):
    """F6: it cost consumers × streams."""
    settings = [StreamSettings(f"s{number}", (f"s{number}/#",)) for number in range(60)]
    desk = Desk(tmp_path, settings)
    for number in range(200):
        desk.router.open_consumer(ConsumerSpec(f"c{number}", (f"s{number % 60}/x", "new/1")), ANA)
    asked = []

    def spy(left, right):
        asked.append((left, right))
        return True if right == "new/#" and left == "new/1" else left.split("/")[0] == right.split("/")[0]

    monkeypatch.setattr("routing.streams.streams.filters_intersect", spy)
    desk.router.apply_streams([*settings, StreamSettings("new", ("new/#",))])
    assert len(asked) <= 2 * 200
    assert all(len(consumer.cursors) == 2 for consumer in desk.router.consumers.values())
    asked.clear()
    desk.router.apply_streams([*settings, StreamSettings("new", ("new/#",))])
    assert not asked, "nothing has changed"
    desk.publish(Event("new/1", b"x", 1))
    assert desk.router.consumers["c7"].lag().events == 1
    desk.close()
