"""Drawing a page: templates, what every page has, and a "no" as a page. jinja2, everything escaped."""
from __future__ import annotations

import asyncio
import json
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlencode

from aiohttp import web

from console import show
from console.management import Management, Refused
from console.static import address

if TYPE_CHECKING:
    import jinja2

CONTENT_POLICY: Final = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                         "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
ZONE_COOKIE: Final = "meshgate-zone"
MENU: Final = (
    ("", "Overview"), ("topology", "Topology"), ("nodes", "Nodes"), ("links", "Links"), ("streams", "Streams"),
    ("topics", "Topics"), ("browse", "Browse"), ("tail", "Tail"), ("journey", "Journey"), ("consumers", "Consumers"),
    ("queues", "Queues"), ("exchanges", "Exchanges"),
    ("bindings", "Bindings"), ("groups", "Kafka groups"), ("transactions", "Transactions"),
    ("deadletters", "Dead letters"), ("webhooks", "Webhooks"), ("bridges", "Bridges"), ("clients", "Clients"),
    ("policies", "Policies"), ("drafts", "Drafts"), ("revisions", "Changes of rules"), ("conflicts", "Conflicts"),
    ("users", "Users"), ("keys", "API keys"), ("roles", "Roles"), ("peers", "Link peers"), ("masks", "Masks"),
    ("quotas", "Quotas"), ("can-i", "Can I?"), ("denials", "Denials"), ("audit", "Audit"), ("logins", "Logins"),
    ("connect", "Connect"),
)
# Who lacks the right does not see the entry.
MENU_RIGHTS: Final = {"audit": "audit", **dict.fromkeys(
    ("logins", "drafts", "revisions", "conflicts", "users", "keys", "peers", "masks", "quotas"), "administer")}


class Pages:
    """One per console."""

    def __init__(self, management: Management, base: str) -> None:
        self._api = management
        self._base = base
        self._is_ready = False

    async def ready(self) -> None:
        """Before the first page: all templates, on a thread, for together they take 100 ms of the loop."""
        if not self._is_ready:
            await asyncio.to_thread(self._load)
            self._is_ready = True

    def _load(self) -> None:
        for name in self._templates.list_templates():
            self._templates.get_template(name)

    @cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2  # late: with the first page

        templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        templates.globals.update(
            base=self._base, address=address, node=self._api.node, environment=self._api.environment,
            spark=show.spark, chart=show.chart)
        templates.filters.update(
            duration=show.duration, size=show.size, number=show.number, ms=show.ms, skew=show.skew, words=show.words,
            trend=show.trend, path=lambda text: quote(str(text), safe=""),
            query=lambda values: urlencode(values), json=lambda value: json.dumps(value), at=value_at)
        return templates

    async def answer(self, request: web.Request, template: str, title: str, live: str, **values: Any) -> web.Response:
        """live: the topics of the stream that keeps the page fresh; "" for none."""
        zone_name = self.zone_name(request)
        zone = show.zone_of(zone_name)
        now_ms = time.time_ns() / 1e6
        me = await self._api.get(request, "whoami")
        text = self._templates.get_template(template).render(
            title=title, live=live, me=me, menu=menu_for(me["may"]), here=self.here(request),
            query=request.query_string,
            time=lambda value: show.time_of(value, zone), since=lambda value: show.since_of(value, now_ms),
            zone=zone_name, open_node=self._api.open, **values)
        return page(text)

    def here(self, request: web.Request) -> str:
        """The path of the page as the browser has it: a proxy may have taken its prefix away."""
        path = request.path
        return path if not self._base or path.startswith(f"{self._base}/") else self._base + path

    def zone_name(self, request: web.Request) -> str:
        """The time zone that this browser wants, as it wrote it."""
        return unquote(self._api.cookie_value(request, ZONE_COOKIE)) or show.ZONE_DEFAULT

    def login(self, to: str, problem: str, status: int) -> web.Response:
        text = self._templates.get_template("login.html").render(to=to, problem=problem, sign_on=self._api.sign_on)
        return page(text, status)

    def refused(self, refused: Refused) -> web.Response:
        text = self._templates.get_template("refused.html").render(status=refused.status, text=refused.text)
        return page(text, refused.status)


def menu_for(may: dict[str, bool]) -> list[tuple[str, str]]:
    return [(path, name) for path, name in MENU if path not in MENU_RIGHTS or may[MENU_RIGHTS[path]]]


def page(text: str, status: int = 200) -> web.Response:
    response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    return response


def value_at(row: dict[str, Any], path: str) -> Any:
    """A column, or what is inside of one; None when there is no such thing."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
