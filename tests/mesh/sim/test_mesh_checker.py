"""The mesh checker itself: a good history passes, every planted fault is found, under its own name."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.checker import Message, Place
from tests.support.mesh_checker import NEVER, MeshHistory, Origin, Published, Stored, Wish, check_mesh, matches

A, B = Origin("a", "ea", "events", 0), Origin("b", "eb", "events", 0)
EVENTS = 20


def message(node: str, number: int) -> Message:
    return Message(f"p-{node}", "k", number)


def good() -> MeshHistory:
    """a and b publish 20 events each; b wants a's from number 5 on, c wants everything, a wants nothing."""
    history = MeshHistory(epochs={"a": "ea", "b": "eb", "c": "ec"})
    for number in range(1, EVENTS + 1):
        history.published[message("a", number)] = Published("a", f"x/{number % 2}", number, number + 0.5)
        history.published[message("b", number)] = Published("b", "y/0", number, number + 0.5)
    history.wishes = [Wish("b", "x/+", since=3, certain=5), Wish("c", "#")]
    history.logs["a"] = [own("a", number, number - 1) for number in range(1, EVENTS + 1)]
    history.logs["b"] = [own("b", number, number - 1) for number in range(1, EVENTS + 1)]
    history.logs["b"] += [copy("a", A, number, EVENTS + number) for number in range(5, EVENTS + 1)]
    history.logs["c"] = [copy("a", A, number, number) for number in range(1, EVENTS + 1)]
    history.logs["c"] += [copy("b", B, number, EVENTS + number) for number in range(1, EVENTS + 1)]
    return history


def own(node: str, number: int, offset: int) -> Stored:
    topic = f"x/{number % 2}" if node == "a" else "y/0"
    return Stored(Place("events", 0, offset), message(node, number), topic, timestamp_ms=number)


def copy(node: str, origin: Origin, number: int, offset: int) -> Stored:
    return own(node, number, offset)._replace(origin=origin, origin_offset=number - 1)


def test_a_good_history_is_clean():
    figures = check_mesh(good())
    assert figures.clean, str(figures)
    assert (figures.acked, figures.received) == (40, {"a": 0, "b": 16, "c": 40})


def replace(history: MeshHistory, node: str, index: int, **fields: object) -> None:
    history.logs[node][index] = history.logs[node][index]._replace(**fields)


def drop_first(history):
    del history.logs["c"][0]


def drop_middle(history):
    del history.logs["c"][9]


def drop_last(history):
    del history.logs["b"][-1]


def drop_all_of_one_origin(history):
    history.logs["c"] = [record for record in history.logs["c"] if record.origin is not B]


def drop_at_home(history):
    del history.logs["a"][4]


def double(history):
    history.logs["c"].append(history.logs["c"][7]._replace(place=Place("events", 0, 99)))


def double_under_another_offset(history):
    history.logs["c"].append(history.logs["c"][7]._replace(place=Place("events", 0, 99), origin_offset=77))


def swap(history):
    log = history.logs["c"]
    log[3], log[4] = log[4]._replace(place=log[3].place), log[3]._replace(place=log[4].place)


def late_by_many(history):
    log = history.logs["b"]
    moved = log.pop(EVENTS + 2)
    log.append(moved._replace(place=Place("events", 0, 99)))


def flip_a_bit(history):
    replace(history, "c", 5, message=None)


def change_the_topic(history):
    replace(history, "c", 5, topic="x/9")


def never_sent(history):
    history.logs["c"].append(copy("a", A, 999, 99))


def refused_but_there(history):
    history.published[message("a", 6)].acked_at = None
    history.published[message("a", 6)].refused = True


def unasked(history):
    history.logs["a"].append(copy("b", B, 3, 99))


def before_it_was_asked_for(history):
    log = history.logs["b"]
    log.insert(EVENTS, copy("a", A, 1, EVENTS))


def after_it_was_taken_back(history):
    history.wishes[0].until, history.wishes[0].gone = 8, 12


def an_old_offset_again(history):
    history.logs["c"].append(copy("a", A, 1, 99))


def an_offset_of_another_event(history):
    replace(history, "c", 5, origin_offset=6)
    replace(history, "c", 6, origin_offset=5)


def two_events_of_one_origin_place(history):
    history.epochs["a"] = "new"
    history.logs["a"] = []
    for sent in history.published.values():
        sent.expendable = True
    replace(history, "c", 5, origin_offset=6)
    replace(history, "b", EVENTS + 2, origin_offset=6)


def offsets_that_run_backwards(history):
    replace(history, "c", 5, place=Place("events", 0, 2))


def exported_before_it_was_durable(history):
    del history.logs["a"][-1]
    history.published[message("a", EVENTS)].acked_at = None


def came_home_again(history):
    history.logs["a"].append(copy("a", A, 5, 99))


def came_home_to_a_wiped_node(history):
    history.epochs["a"] = "new"
    for sent in history.published.values():
        sent.expendable = True
    history.logs["a"] = [copy("a", A, 5, 0)]


def forged_origin(history):
    replace(history, "c", 5, origin=B, origin_offset=50)


def taken_for_its_own(history):
    replace(history, "c", 5, origin=None)


PLANTED: list[tuple[Callable[[MeshHistory], None], str]] = [
    (drop_first, "LOST"), (drop_middle, "LOST"), (drop_last, "LOST"), (drop_all_of_one_origin, "LOST"),
    (drop_at_home, "LOST"), (double, "DUP"), (double_under_another_offset, "DUP"), (swap, "REORDER"),
    (late_by_many, "REORDER"), (flip_a_bit, "CORRUPT"), (change_the_topic, "CORRUPT"), (never_sent, "PHANTOM"),
    (refused_but_there, "PHANTOM"), (unasked, "UNASKED"), (before_it_was_asked_for, "UNASKED"),
    (after_it_was_taken_back, "UNASKED"), (an_old_offset_again, "REORDER"),
    (an_offset_of_another_event, "OFFSET-CONFLICT"), (two_events_of_one_origin_place, "OFFSET-CONFLICT"),
    (offsets_that_run_backwards, "OFFSET-CONFLICT"), (exported_before_it_was_durable, "UNCOMMITTED"),
    (came_home_again, "LOOP"), (came_home_to_a_wiped_node, "LOOP"), (forged_origin, "PHANTOM"),
    (taken_for_its_own, "PHANTOM"),
]


@pytest.mark.parametrize(("plant", "kind"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_found(plant, kind):
    history = good()
    plant(history)
    figures = check_mesh(history)
    assert figures.faults[kind], f"not found:\n{figures}"


def test_where_something_is_missing_is_told():
    for plant, where in ((drop_first, "prefix"), (drop_middle, "middle"), (drop_last, "suffix"),
                         (drop_all_of_one_origin, "all")):
        history = good()
        plant(history)
        assert set(check_mesh(history).lost_where) == {where}


def test_history_fetched_beside_the_flow_is_no_reordering_but_only_when_it_was():
    history = good()
    log = history.logs["c"]
    old = [record._replace(place=Place("events", 0, 100 + number)) for number, record in enumerate(log[:6])]
    history.logs["c"] = log[6:] + old
    assert check_mesh(history).faults["REORDER"]
    old = [record._replace(flow=1) for record in old]
    history.logs["c"] = log[6:] + old
    assert check_mesh(history).clean
    old[2], old[3] = old[3]._replace(place=old[2].place), old[2]._replace(place=old[3].place)
    history.logs["c"] = log[6:] + old
    assert check_mesh(history).faults["REORDER"], "order holds within what was fetched, too"


def test_what_may_be_gone_by_the_rules_is_not_lost():
    history = good()
    drop_middle(history)
    history.published[message("a", 10)].expendable = True
    assert check_mesh(history).clean


def test_an_unanswered_publish_may_be_there_or_not():
    history = good()
    history.published[message("a", EVENTS)].acked_at = None
    assert check_mesh(history).clean
    for node in "abc":
        history.logs[node] = [one for one in history.logs[node] if one.message != message("a", EVENTS)]
    assert check_mesh(history).clean


# --- retained, direct -------------------------------------------------------------------------------------------------
def retained() -> MeshHistory:
    """a and b retain on y/0 in turn; the newest is b's 20th (time 20, node b)."""
    history = good()
    for sent in history.published.values():
        sent.retain, sent.topic = True, "r/0"
    history.logs = {node: [record._replace(topic="r/0") for record in log] for node, log in history.logs.items()}
    history.wishes = [Wish("a", "none"), Wish("b", "r/#", since=3, certain=5), Wish("c", "#")]
    history.retained = {"a": {"r/0": message("a", EVENTS)}, "b": {"r/0": message("b", EVENTS)},
                        "c": {"r/0": message("b", EVENTS)}}
    return history


def test_retained_tables_that_agree_are_clean():
    assert check_mesh(retained()).clean, str(check_mesh(retained()))


@pytest.mark.parametrize("fault", ["differs", "stale everywhere", "ghost", "missing", "tombstone ignored"])
def test_retained_tables_that_do_not_are_found(fault):
    history = retained()
    if fault == "differs":
        history.retained["b"]["r/0"] = message("a", EVENTS)
    elif fault == "stale everywhere":
        history.retained["b"]["r/0"] = history.retained["c"]["r/0"] = message("a", EVENTS)
    elif fault == "ghost":
        history.retained["c"]["r/9"] = message("a", 1)
    elif fault == "missing":
        del history.retained["c"]["r/0"]
    else:
        history.published[message("b", EVENTS)].tombstone = True
    assert check_mesh(history).faults["RETAINED"]


def test_a_copy_that_outlived_its_unanswered_event_may_be_kept_but_by_all():
    history = retained()
    history.published[message("c", 1)] = Published("c", "r/0", EVENTS + 1, retain=True)
    history.retained = {node: {"r/0": message("c", 1)} for node in "abc"}
    assert check_mesh(history).clean, str(check_mesh(history))
    history.retained["b"]["r/0"] = message("b", EVENTS)
    assert check_mesh(history).faults["RETAINED"]
    history.retained["b"]["r/0"] = message("c", 1)
    history.published[message("c", 1)].acked_at = EVENTS + 1
    assert check_mesh(history).faults["RETAINED"]


def test_a_wish_counts_from_when_it_was_made_whoever_was_cut_off():
    history = good()
    history.wishes.append(Wish("a", "#", since=3, certain=NEVER, counts=10))
    assert check_mesh(history).faults["LOST"]
    history.wishes[-1].counts = NEVER
    assert check_mesh(history).clean


@pytest.mark.parametrize(("got", "kind"), [([1, 1], "DIRECT"), ([999], "PHANTOM"), ([1], "UNASKED")])
def test_direct_frames_come_at_most_once_and_never_unasked(got, kind):
    history = good()
    history.direct["a" if kind == "UNASKED" else "c"] = [message("b", number) for number in got]
    assert check_mesh(history).faults[kind]


def test_a_lost_direct_frame_is_no_fault():
    history = good()
    for number in range(1, EVENTS + 1):
        history.published[message("d", number)] = Published("a", "live/1", number, number)
    history.unstored = {"live/1"}
    history.direct["c"] = [message("d", 4), message("d", 2)]
    assert check_mesh(history).clean


@pytest.mark.parametrize(("pattern", "topic", "answer"), [
    ("#", "a/b", True), ("#", "$SYS/a", False), ("a/#", "a", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False),
    ("+/b", "$x/b", False), ("a/b", "a", False), ("a", "a/b", False), ("a/+/c", "a//c", True),
])
def test_the_checkers_own_matcher(pattern, topic, answer):
    assert matches(pattern, topic) is answer
