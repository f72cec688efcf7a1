"""What [[replicate]] and [replication] must hold beyond the types of their values. Called by mesh/configuration."""
from __future__ import annotations

from collections.abc import Iterator

from mesh.replication.settings import ReplicateSettings, ReplicationSettings
from routing.errors import TopicError
from routing.topic import check_filter

TABLES_MAX = 1_000


def check_replication(tables: tuple[ReplicateSettings, ...], limits: ReplicationSettings) -> Iterator[str]:
    """Each problem is one line that begins with the path of the setting."""
    if len(tables) > TABLES_MAX:
        yield f"replicate: at most {TABLES_MAX} tables"
    known: dict[str, int] = {}
    for index, table in enumerate(tables):
        path = f"replicate[{index}].filter"
        try:
            check_filter(table.filter)
        except TopicError as error:
            yield f"{path}: {error}"
        if table.filter.startswith("$"):
            yield f"{path}: topics that begin with $ belong to each node and are not replicated"
        if table.filter in known:
            yield f"{path}: {table.filter} stands in replicate[{known[table.filter]}] already"
        known.setdefault(table.filter, index)
    for field in limits.__struct_fields__:
        value = getattr(limits, field)
        least = 0 if field.startswith(("hold", "linger")) else 1
        if isinstance(value, (int, float)) and value < least:
            name = "hold_age" if field == "hold_age_ms" else field
            yield f"replication.{name}: expected at least {least}, got {value}"
