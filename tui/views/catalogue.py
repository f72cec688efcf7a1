"""Which view a command opens. The only place that knows them all."""
from __future__ import annotations

from collections.abc import Callable

from tui.commands import TABLES, Command
from tui.views.contexts import ContextsView
from tui.views.details import Details
from tui.views.events.browse import Browse, Tail
from tui.views.events.journey import Journey
from tui.views.events.streams import Streams
from tui.views.events.topics import Topics
from tui.views.help import Help
from tui.views.mesh.links import Links
from tui.views.mesh.listeners import Listeners
from tui.views.mesh.map import Map
from tui.views.mesh.nodes import Nodes
from tui.views.mesh.pulse import Pulse
from tui.views.readers.bridges import Bridges
from tui.views.readers.clients import Clients
from tui.views.readers.consumers import Consumers
from tui.views.readers.deadletters import DeadLetters, Letters
from tui.views.readers.exchanges import Bindings, Exchanges
from tui.views.readers.groups import Groups, Transactions
from tui.views.readers.queues import Queues
from tui.views.readers.webhooks import Webhooks
from tui.views.rules.audit import Audit
from tui.views.rules.can_i import USAGE, CanI
from tui.views.rules.denials import Denials
from tui.views.rules.logins import Logins
from tui.views.rules.managed import Conflicts, Drafts, Keys, Masks, Peers, Quotas, Revisions, Roles, Users
from tui.views.rules.policies import Policies
from tui.views.table import TableView
from tui.views.view import View

TABLE_VIEWS: dict[str, type[TableView]] = {
    view.NAME: view for view in (
        Nodes, Links, Streams, Topics, Consumers, Queues, Exchanges, Bindings, Groups, Transactions, DeadLetters,
        Clients, Webhooks, Bridges, Policies, Drafts, Revisions, Conflicts, Users, Keys, Roles, Peers, Masks, Quotas,
        Denials, Audit, Logins, Listeners, ContextsView)
}
OTHERS: dict[str, Callable[[Command], View]] = {
    "pulse": lambda command: Pulse(),
    "map": lambda command: Map(),
    "browse": lambda command: Browse(command.params),
    "tail": lambda command: Tail(command.params),
    "journey": lambda command: Journey(command.rest),
    "can-i": lambda command: CanI(command.rest),
    "help": lambda command: Help(screens()),
}


def screens() -> dict[str, str]:
    """Name → what it shows, in the order of the help."""
    return {view.NAME: view.ABOUT for view in (Pulse, Map)} | {
        name: view.ABOUT for name, view in TABLE_VIEWS.items()} | {
        "browse": Browse.ABOUT, "tail": Tail.ABOUT, "journey": Journey.ABOUT, "can-i": f"{CanI.ABOUT} {USAGE}"}


def view_for(command: Command) -> View:
    """A new view."""
    if command.key and command.name in TABLES:
        node = command.params.get("node", "")
        special = {"topics": lambda: Topics(under=command.key), "deadletters": lambda: Letters(command.key, node)}
        return special.get(command.name, lambda: Details(command.name, command.key, node))()
    if command.name in TABLE_VIEWS:
        view = TABLE_VIEWS[command.name](command.rest, command.params.get("sort", ""))
        if command.params.get("after"):
            view.after.append(command.params["after"])
        return view
    return OTHERS[command.name](command)
