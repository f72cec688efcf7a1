"""The documentation says what the code does: docs/configuration.md has the settings and defaults of the structs, and
docs/firm-ground.md names tests and places of rules that are there, links lead somewhere.
"""
from __future__ import annotations

import enum
import re
from pathlib import Path

import msgspec
import pytest

from mesh.configuration.settings import (
    Config,
    ConsoleSettings,
    Listeners,
    ListenerSettings,
    NodeSettings,
    RetentionSettings,
    StreamTable,
    TlsSettings,
    UserSettings,
)
from mesh.connectors.kafka.settings import BridgeSasl, BridgeTls, InwardRoute, KafkaBridge, OutwardRoute
from mesh.connectors.webhook_settings import ConsumerTable, WebhookSecret, WebhookSettings
from mesh.identity.auth_settings import ApiKeySettings, JwtSettings, LoginSettings, OidcSettings
from mesh.identity.masks import MaskTable
from mesh.link.settings import LinkLimits, LinkPeerTable, LinkTable
from mesh.protocols import PROTOCOLS
from mesh.replication.settings import ReplicateSettings, ReplicationSettings
from mesh.topology.settings import MeshSettings
from mesh.values.units import parse_duration_ms, parse_size
from protocols.rest.cors_settings import CorsSettings
from protocols.rest.ratelimit import RateLimit
from routing.consumers.definition.push import StrictPush
from routing.rights.policy import Rule
from routing.settings import Limits

ROOT = Path(__file__).resolve().parents[1]
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "[node]": NodeSettings, "[listeners]": Listeners, "A listener": ListenerSettings, "tls": TlsSettings,
    "[console]": ConsoleSettings, "[[masks]]": MaskTable,
    "[[streams]]": StreamTable, "retention": RetentionSettings, "[[users]]": UserSettings,
    "[[api_keys]]": ApiKeySettings, "[[jwt]]": JwtSettings, "[[policies]]": Rule,
    "[logins]": LoginSettings, "[limits]": Limits, **{f"[{spec.name}]": spec.settings for spec in PROTOCOLS},
    "[http.cors]": CorsSettings, "[[http.rate_limits]]": RateLimit,
    "[webhooks]": WebhookSettings, "[webhooks.secrets.NAME]": WebhookSecret, "[[consumers]]": ConsumerTable,
    "[[kafka_bridges]]": KafkaBridge, "kafka_bridges.tls": BridgeTls, "kafka_bridges.sasl": BridgeSasl,
    "kafka_bridges.inward": InwardRoute, "kafka_bridges.outward": OutwardRoute,
    "push": StrictPush, "[oidc]": OidcSettings, "[[links]]": LinkTable,
    "[[link_peers]]": LinkPeerTable, "[link]": LinkLimits,
    "[[replicate]]": ReplicateSettings, "[replication]": ReplicationSettings, "[mesh]": MeshSettings,
}


def documented(heading: str) -> dict[str, str]:
    """Setting → default as written, from the table under a heading."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    found = {}
    inside = False
    for line in text.splitlines():
        if line.startswith("#"):
            inside = line.lstrip("# ") == heading
        elif inside and line.startswith("| `"):
            name, default = (cell.strip() for cell in line.split(" | ")[:2])
            found[name.strip("|` ")] = default
    return found


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_setting_is_documented_and_nothing_else_is(heading: str) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(SECTIONS[heading])]
    if heading == "[listeners]":                # clients' protocols first there; a struct has those of its base first
        names = [name for name in names if name not in ("console", "link")] + ["console", "link"]
    assert list(documented(heading)) == names


def _plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else list(value) if isinstance(value, tuple) else value


def _written(name: str, text: str) -> object:
    """The value that a default in the documentation stands for."""
    text = text.strip("`")
    last = name.removesuffix("_max").rpartition("_")[2]
    value = msgspec.json.decode(text)
    if last == "bytes":
        return parse_size(value)
    if last == "age":
        return parse_duration_ms(value)
    if last == "s" and isinstance(value, str):
        return parse_duration_ms(value) / 1000
    return value


@pytest.mark.parametrize("heading", [heading for heading in SECTIONS if heading != "[listeners]"])
def test_documented_defaults_are_the_real_ones(heading: str) -> None:
    written = documented(heading)
    for field in msgspec.structs.fields(SECTIONS[heading]):
        text = written[field.encode_name]
        if field.required:
            assert text == "required", field.encode_name
        elif field.default is None or isinstance(field.default, msgspec.Struct):
            assert text == "–", field.encode_name
        else:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            assert _written(field.encode_name, text) == _plain(default), field.encode_name


def test_documented_listeners_are_the_default_ones() -> None:
    listeners = {protocol: listener.bind for protocol, listener in Config().listeners.all()}
    assert {name: text.strip("`") for name, text in documented("[listeners]").items()} == listeners


FIRM = (ROOT / "docs" / "firm-ground.md").read_text()


@pytest.mark.parametrize("finding", [*map(str, range(1, 12)), *(f"K{number}" for number in range(1, 11))])
def test_every_finding_has_its_row_with_a_test(finding: str) -> None:
    row = re.search(rf"^\| {finding} \|.*$", FIRM, re.MULTILINE)
    assert row is not None and "::test_" in row[0]


@pytest.mark.parametrize("file, name", sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", FIRM))), ids=str)
def test_the_tests_of_findings_are_there(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`((?:mesh|protocols|routing)/[\w/]+(?:\.py|/))`", FIRM))))
def test_the_places_of_their_rules_are_there(place: str) -> None:
    assert (ROOT / place).exists()


PLACE = re.compile(r"`((?:bench|console|mesh|protocols|routing|tests|tui)/[a-z0-9_/]*(?:/|\.py))`")


@pytest.mark.parametrize("page", ["README.md", "docs/adding-a-protocol.md", "docs/firm-ground.md", "docs/log.md"])
def test_a_place_that_a_page_names_is_there(page):
    places = PLACE.findall((ROOT / page).read_text())
    assert places or page == "docs/log.md"
    assert not [place for place in places if not (ROOT / place).exists() and not (ROOT / "tests" / place).exists()]


def test_the_map_of_folders_names_every_room():
    """A newcomer looks for it in the README; what all protocols share stands there under its own name."""
    text = (ROOT / "README.md").read_text()
    rooms = [path.parent for top in ("mesh", "routing", "protocols") for path in (ROOT / top).glob("*/__init__.py")]
    for room in rooms:
        if not (room / "spec.py").exists():             # those of protocols are named by their door
            assert f"{room.name}/`" in text, f"{room.relative_to(ROOT)} is not in the map"


FENCED = re.compile(r"```.*?```", re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made of them where pages are shown."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", (ROOT / page).read_text())):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            place = (ROOT / page).parent / file if file else ROOT / page
            assert place.exists(), link
            assert not anchor or place.suffix != ".md" or anchor in anchors(place), link
