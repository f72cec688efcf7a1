"""The command bar: what is typed, what it could become, and addresses of the web console."""
from __future__ import annotations

import pytest

from tui.commands import Command, CommandError, complete_filter, completions, of_address, parse


@pytest.mark.parametrize(("text", "command"), [
    ("links", Command("links")),
    (":links state!=up node~graz", Command("links", rest="state!=up node~graz")),
    ("c", Command("consumers")),
    ("consumers/mqtt%2Farchive", Command("consumers", "mqtt/archive")),
    ("", Command("pulse")),
    ("stre", Command("streams")),
    ("browse plant/# from=2h match=a b", Command("browse", rest="plant/# from=2h match=a b",
                                                 params={"filter": "plant/#", "from": "2h", "match": "a b"})),
    ("tail", Command("tail", params={})),
    ("can-i ana publish a/b roles=x", Command("can-i", rest="ana publish a/b roles=x")),
    ("q", Command("quit")),
])
def test_what_is_typed(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize("text", ["fly", "browse a b", "xyz/1", "open http://x/unknown"])
def test_what_makes_no_sense_is_said(text: str) -> None:
    with pytest.raises(CommandError):
        parse(text)


@pytest.mark.parametrize(("address", "command"), [
    ("http://127.0.0.1:8090/links?filter=state%3Dblocked&sort=-rtt_ms",
     Command("links", rest="state=blocked", params={"sort": "-rtt_ms"})),
    ("https://mesh.example/consumers/mqtt%2Farchive", Command("consumers", "mqtt/archive")),
    ("/", Command("pulse")), ("http://h:1/topology?site=a", Command("map")),
    ("/browse?filter=a/%23&match=x+y", Command("browse", params={"filter": "a/#", "match": "x y"})),
    ("/can-i?user=ana&action=publish&topic=a&roles=r", Command("can-i", rest="ana publish a roles=r")),
])
def test_an_address_of_the_web_console_opens_the_same_view(address: str, command: Command) -> None:
    assert of_address(address) == command
    assert parse(f"open {address}") == command


def test_an_address_under_a_prefix_does_too() -> None:
    """[console] base_path."""
    assert parse("open https://ops.example/mesh/links/links?filter=a", "/mesh/links") == Command("links", rest="a")


def test_completion() -> None:
    assert completions("co") == ["consumers", "conflicts", "contexts", "context"]
    assert completions("links st", fields=["id", "state", "state_since_ms"]) == ["links state", "links state_since_ms"]
    assert completions("links state=up no", fields=["node"]) == ["links state=up node"]
    assert completions("sort -la", fields=["lag_events", "name"]) == ["sort -lag_events"]
    assert completions("links/gr", names=["graz", "linz"]) == ["links/graz"]
    assert completions("context g", contexts=["graz", "linz"]) == ["context graz"]
    assert completions("can-i ana pu") == ["can-i ana publish "]
    assert completions("browse a fr") == ["browse a from="]
    assert complete_filter("state=", ["state"]) == []
