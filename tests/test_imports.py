"""Imports go one way: mesh → protocols → routing → routing/log; protocols never import each other (architecture §2)."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("mesh", "protocols", "routing", "console", "tui")
LOG_LEAVES = {"routing.event", "routing.errors", "routing.ticket", "routing.settings", "routing.topic"}
IMPURE = {"asyncio", "random", "secrets", "socket", "ssl", "threading", "uvloop", "aiohttp"}
SANS_IO = [
    "protocols/errors.py", "protocols/web/fields.py",
    *(f"protocols/transport/{name}.py" for name in ("wire", "slices", "sharedport")),
    *(f"protocols/formats/{name}.py" for name in ("cloudevents", "location", "event_json", "start")),
    "protocols/websocket/frames.py", "protocols/websocket/handshake.py",
    *(f"protocols/websocket/{name}.py" for name in ("messages", "json/messages", "json/session", "json/subscription")),
    "protocols/rest/translation/convert.py",
    *(f"mesh/link/protocol/{name}.py" for name in (
        "frames", "codes", "session", "health", "outbox", "bucket", "meter", "roundtrip", "peer")),
    *(f"protocols/mqtt/{name}.py" for name in (
        "codec/packets", "codec/decode", "codec/encode", "codec/properties", "codec/reader", "convert",
        "sessions/session", "inbound", "delivery/outbound")),
    *(f"mesh/topology/{name}.py" for name in (
        "linkstate/linkstate", "linkstate/nodestate", "gossip/claims", "gossip/flood", "gossip/gossip", "gossip/own",
        "paths/paths", "paths/routes", "interest/covering", "interest/interest")),
    "mesh/direct.py",
]


def files() -> list[Path]:
    return sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, those for type checkers included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def is_protocol(module: str) -> bool:
    """In the folder of a protocol, which has a spec? The other folders of protocols/ are there for all."""
    return (ROOT / "protocols" / module.split(".")[1] / "spec.py").exists()


def allowed(importer: str, imported: str) -> bool:
    """May the module `importer` import our module `imported`?"""
    top, target = importer.split(".")[0], imported.split(".")[0]
    if top == "routing":
        if importer.startswith("routing.log."):
            return imported in LOG_LEAVES or imported.split(".")[:2] == ["routing", "log"]
        return target == "routing"
    if top == "protocols":
        if target == "protocols":
            return imported.split(".")[1:2] == [importer.split(".")[1]] or not is_protocol(imported)
        return target == "routing"
    if top == "mesh":
        if importer.startswith("mesh.commands."):       # the dashboard is a command, and shares its contexts
            return target in ("mesh", "protocols", "routing", "tui")
        return target in ("mesh", "protocols", "routing", "console")
    return target == top        # console and tui see only the management API


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    importer = module_of(path)
    wrong = [
        imported for imported in imports(path)
        if imported.split(".")[0] in OURS and not allowed(importer, imported)
    ]
    assert not wrong, f"{importer} imports {', '.join(wrong)}"


def test_the_routing_core_knows_no_event_loop() -> None:
    for path in (ROOT / "routing").rglob("*.py"):
        assert not {"asyncio", "aiohttp", "uvloop"} & {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("name", SANS_IO)
def test_codecs_and_sessions_are_sans_io(name: str) -> None:
    found = {module.split(".")[0] for module in imports(ROOT / name)}
    assert not found & IMPURE, f"{name} imports {sorted(found & IMPURE)}"


@pytest.mark.parametrize(("importer", "imported", "fine"), [
    ("protocols.mqtt.sessions.session", "protocols.mqtt.codec.packets", True),
    ("protocols.mqtt.sessions.session", "protocols.transport.wire", True),
    ("protocols.mqtt.sessions.session", "protocols.rest.app", False),
    ("protocols.transport.slices", "protocols.mqtt.settings", False),
    ("protocols.rest.app", "mesh.identity.identity", False),
    ("routing.router", "protocols.transport.wire", False),
    ("routing.router", "routing.log.store", True),
    ("routing.log.store", "routing.router", False),
    ("routing.log.store", "routing.settings", True),
    ("tui.app", "routing.router", False),
    ("tui.app", "mesh.commands.client.http", False),
    ("mesh.commands.status.dashboard", "tui.run", True),
    ("mesh.management.api", "tui.run", False),
    ("mesh.node", "routing.log.store", True),
])
def test_the_rule_itself(importer: str, imported: str, fine: bool) -> None:
    assert allowed(importer, imported) is fine


# -- circles: none, those for type checkers included ----------------------------------------------------------------

def graph(modules: dict[str, Path]) -> dict[str, list[str]]:
    """Module → modules of ours that it imports, also as `from package import module`."""
    found: dict[str, list[str]] = {}
    for name, path in modules.items():
        reached = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                reached |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                reached |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[name] = sorted(reached & set(modules) - {name})
    return found


@cache
def our_graph() -> dict[str, list[str]]:
    return graph({module_of(path): path for path in files()})


def circles(edges: dict[str, list[str]]) -> list[set[str]]:
    """Groups of modules in which each reaches each (Tarjan's strongly connected components), without single ones."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in edges[name]:
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            place = stack.index(name)
            group = set(stack[place:])
            del stack[place:]
            if len(group) > 1:
                found.append(group)

    for name in edges:
        if name not in number:
            visit(name)
    return found


def test_no_circle_of_imports() -> None:
    found = circles(our_graph())
    assert not found, "\n".join(" ".join(sorted(group)) for group in found)


def test_a_circle_is_found() -> None:
    assert circles({"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": []}) == [{"a", "b", "c"}]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


# -- rooms: neither ---------------------------------------------------------------------------------------------------

# Their rooms still import each other both ways. What leaves the list does not come back.
NOT_YET = {"routing"}


def rooms_of(parent: str, edges: dict[str, list[str]], packages: set[str]) -> dict[str, list[str]]:
    """Room of a package → rooms beside it from which it imports, each with all that is in it. Doors count for none."""
    depth = parent.count(".") + 2
    found: dict[str, set[str]] = {}
    for module, imported in edges.items():
        room = ".".join(module.split(".")[:depth]) if module.startswith(f"{parent}.") else ""
        if room in packages:
            others = {".".join(name.split(".")[:depth]) for name in imported if name.startswith(f"{parent}.")}
            found.setdefault(room, set()).update(others & packages - {room})
    return {name: sorted(others) for name, others in found.items()}


def test_no_circle_of_rooms() -> None:
    edges = our_graph()
    packages = {module_of(path) for path in files() if path.name == "__init__.py"}
    found = {name: both_ways for name in packages if (both_ways := circles(rooms_of(name, edges, packages)))}
    assert found.keys() == NOT_YET, {name: both_ways for name, both_ways in found.items() if name not in NOT_YET}
