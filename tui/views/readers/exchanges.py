"""Exchanges of AMQP 0-9-1, and which leads where."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Exchanges(TableView):
    NAME = "exchanges"
    TITLE = "Exchanges"
    ACROSS = True
    ABOUT = "Exchanges of AMQP 0-9-1."
    EMPTY = "There is no exchange."
    COLUMNS = (
        Column("name", "Exchange", "key", 0), Column("type", "Type", "text", 0),
        Column("bindings", "Bindings", "number", 0), Column("durable", "Durable", "yes", 1),
        Column("auto_delete", "Goes when unused", "yes", 2), Column("internal", "Internal", "yes", 2),
        Column("alternate", "Alternate", "text", 2), Column("user", "Declared by", "text", 3),
        Column("arguments", "Arguments", "text", 3),
    )


class Bindings(TableView):
    NAME = "bindings"
    TITLE = "Bindings"
    KEY = "id"
    ACROSS = True
    ABOUT = "Which exchange leads to which queue or exchange, by which key."
    EMPTY = "Nothing is bound but to the default exchange."
    COLUMNS = (
        Column("source", "From", "key", 0), Column("destination", "To", "key", 0),
        Column("to", "Which is a", "text", 2),
        Column("key", "Routing key", "text", 0), Column("arguments", "Arguments", "text", 1),
    )
