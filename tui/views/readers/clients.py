"""Who is connected, and MQTT sessions that are away."""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, client_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Clients(TableView):
    NAME = "clients"
    TITLE = "Clients"
    KEY = "client_id"
    TROUBLE = "connected=no"
    ACROSS = True
    ABOUT = "Who is connected, and MQTT sessions that are away."
    EMPTY = "No client is connected."
    COLUMNS = (
        Column("client_id", "Client", "key", 0), Column("protocol", "Protocol", "text", 1),
        Column("user", "User", "text", 1), Column("address", "From", "text", 2),
        Column("connected", "Connected", "yes", 0), Column("connected_since_ms", "Since", "since", 2),
        Column("subscriptions", "Subscriptions", "number", 3), Column("in_flight", "In flight", "number", 3),
        Column("queued", "Queued", "number", 3), Column("protocol_version", "Version", "text", 4, wide=True),
        Column("session_expiry_s", "Session kept for", "duration", 4, wide=True),
        Column("write_buffer_bytes", "To be sent", "size", 4, wide=True),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return client_acts(self.subject(), self.at_node) if self.row and self.value("connected") is not False else []

    def question(self) -> str:
        user = self.value("user")
        return f"can-i {user} " if user else "can-i "
