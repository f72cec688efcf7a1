"""Where the node listens."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Listeners(TableView):
    NAME = "listeners"
    TITLE = "Listeners"
    KEY = "address"
    DETAILS = False
    ABOUT = "Where this node listens."
    COLUMNS = (
        Column("address", "Address", "key", 0), Column("protocol", "Protocol", "text", 0),
        Column("tls", "TLS", "yes", 0),
    )
