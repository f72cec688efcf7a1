"""A table of the API as a screen: a page of rows, filtered, sorted and cut by the node. Subclasses say which."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events

from tui import show
from tui.text import clean, fit
from tui.views.view import View, at, message_lines
from tui.widgets.columns import Column, Laid, gap_behind, lay_out, natural_widths, row_pieces
from tui.widgets.line import ACCENT, DIM, KEY, NOTE, TITLE, WARN, Line, Piece

if TYPE_CHECKING:
    from tui.api.client import Client

PAGE_ROWS = 1_000
NODE = Column("at", "Node", "text", 3)
FRAME_LINES = 1                 # the titles
CURSOR = "▸ "


class TableView(View):
    """KEY: the column that names a row.  TROUBLE: the filter that `z` adds.  SORT: when nothing else is asked for."""

    KEY: ClassVar[str] = "name"
    COLUMNS: ClassVar[Sequence[Column]] = ()
    TROUBLE: ClassVar[str] = ""
    SORT: ClassVar[str] = ""
    EMPTY: ClassVar[str] = "Nothing here."
    EXTRA: ClassVar[Sequence[str]] = ()     # fields that are needed and not shown
    DETAILS: ClassVar[bool] = True
    ACROSS: ClassVar[bool] = False          # all nodes have it: their rows stand in one table, with `at`, the node
    scrolls = False

    def __init__(self, filter: str = "", sort: str = "") -> None:
        super().__init__()
        self.columns = (*self.COLUMNS[:1], NODE, *self.COLUMNS[1:]) if self.ACROSS else tuple(self.COLUMNS)
        self.answered: list[dict[str, Any]] = []        # what each node said
        self.filter = filter
        self.sort = sort or self.SORT
        self.trouble = False
        self.wide = False
        self.cursor = 0
        self.left = 0                       # cells that are scrolled out to the left (wide)
        self.after: list[str] = []          # cursors of the pages before this one
        self.rows: list[dict[str, Any]] = []
        self.total = self.matched = 0
        self.next = ""
        self._natural: list[int] = []
        self._key = ""                      # of the row under the cursor: it stays there when the order changes

    # -- data -------------------------------------------------------------------------------------------------

    async def load(self, client: Client) -> Any:
        return await client.get(self.resource, self.request_params())

    @property
    def resource(self) -> str:
        return self.NAME

    def request_params(self) -> dict[str, str]:
        """Parameters of the table; only the columns that are shown travel."""
        fields = dict.fromkeys([self.KEY, *(column.path for column in self.COLUMNS), *self.EXTRA])
        return {"scope": "mesh" if self.ACROSS else "", "filter": self.full_filter(), "sort": self.sort,
                "limit": str(PAGE_ROWS), "after": self.after[-1] if self.after else "", "fields": ",".join(fields)}

    def full_filter(self) -> str:
        return " ".join(part for part in (self.filter, self.TROUBLE if self.trouble else "") if part)

    def take(self, data: Any) -> None:
        rows, total, matched = data[self.resource], data["total"], data["matched"]
        names = (self.KEY, "at") if self.ACROSS else (self.KEY,)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(names) for row in rows):
            raise ValueError("a table is a list of rows with names")
        if not isinstance(total, int) or not isinstance(matched, int):
            raise TypeError("counts are numbers")
        self.answered = data["nodes"] if self.ACROSS else []
        self.rows = rows
        self.total, self.matched, self.next = data["total"], data["matched"], data["next"] or ""
        keys = [self._name_of(row) for row in self.rows]
        if self._key and self._key in keys and keys[min(self.cursor, len(keys) - 1)] != self._key:
            self.cursor = keys.index(self._key)
        self._settle()

    def params(self) -> dict[str, str]:
        return {"filter": self.full_filter(), "sort": "" if self.sort == self.SORT else self.sort,
                "after": self.after[-1] if self.after else ""}

    # -- drawing ----------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        if not self.loaded:
            return message_lines("asking the node …", DIM)
        room = height - FRAME_LINES
        self.top = max(min(self.top, self.cursor, len(self.rows) - room), self.cursor - room + 1, 0)
        visible = self.rows[self.top:self.top + room]
        self._natural = natural_widths(self.columns, visible, self.now_ms, self._natural)
        laid = lay_out(self.columns, self._natural, width - len(CURSOR), wide=self.wide)
        lines = [self._titles(laid)]
        for index, row in enumerate(visible, self.top):
            marked = index == self.cursor
            pieces = [(CURSOR if marked else "  ", KEY), *self._scrolled(row_pieces(laid, row, self.now_ms))]
            lines.append(Line(pieces, marked))
        if not self.rows:
            lines += message_lines(self._nothing(), DIM)
        return lines

    def _titles(self, laid: Sequence[Laid]) -> Line:
        downwards = self.sort.startswith("-")
        by = self.sort.removeprefix("-")
        pieces: list[Piece] = []
        for index, (column, width) in enumerate(laid):
            mark = ("▼" if downwards else "▲") if column.path == by else ""
            pieces.append((fit(f"{column.title}{mark}", width, right=column.right) + gap_behind(index, laid),
                           ACCENT if mark else DIM))
        return Line([("  ", DIM), *self._scrolled(pieces)])

    def _scrolled(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Without the cells that are scrolled out; the cut goes between columns, so no wide character is halved."""
        left = self.left
        found = list(pieces)
        while left > 0 and len(found) > 1:
            found.pop(0)
            left -= 1
        return found

    def _nothing(self) -> str:
        if self.full_filter() or self.after:
            return "No row fits the filter. esc takes it away." if self.full_filter() else "Nothing behind this page."
        return self.EMPTY

    def headline(self) -> list[Piece]:
        if not self.loaded:
            return []
        first = len(self.after) * PAGE_ROWS
        shown = show.number(self.matched)
        if self.after or self.next:
            shown = f"{first + 1:,}–{first + len(self.rows):,} of {shown}"
        if self.matched != self.total:
            shown += f" of {show.number(self.total)}"
        pieces: list[Piece] = [(shown, TITLE)]
        silent = [one for one in self.answered if one["state"] != "answered"]
        if silent:
            names = ", ".join(clean(f"{one['node']}: {one['state']}") for one in silent[:3])
            pieces.append((f"  △ {names}{' …' if len(silent) > 3 else ''}", WARN))
        if self.filter:
            pieces.append((f"  / {clean(self.filter)}", NOTE))
        if self.trouble:
            pieces.append(("  △ only problems", WARN))
        if self.next:
            pieces.append(("  n next page", DIM))
        if self.after:
            pieces.append(("  b back", DIM))
        return pieces

    # -- the cursor -------------------------------------------------------------------------------------------

    @property
    def row(self) -> dict[str, Any] | None:
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def _settle(self) -> None:
        self.cursor = max(min(self.cursor, len(self.rows) - 1), 0)
        row = self.row
        self._key = self._name_of(row) if row is not None else ""

    def _name_of(self, row: Mapping[str, Any]) -> str:
        """One row of the mesh: two nodes may have one of the same name."""
        return f"{row[self.KEY]}\0{row['at']}" if self.ACROSS else str(row[self.KEY])

    @property
    def at_node(self) -> str:
        """Whose the row under the cursor is; "" in a table of the node that is asked."""
        return self._key.partition("\0")[2]

    def move(self, lines: int) -> None:
        self.cursor = max(min(self.cursor + lines, len(self.rows) - 1), 0)
        self._settle()
        self.repaint()

    def edge(self, end: bool) -> None:
        self.move(len(self.rows) if end else -len(self.rows))

    def sideways(self, cells: int) -> None:
        self.left = max(min(self.left + cells, len(self.columns) - 1), 0) if self.wide else 0
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        index = self.top + event.y - FRAME_LINES
        if event.y >= FRAME_LINES and index < len(self.rows):
            again = index == self.cursor
            self.move(index - self.cursor)
            if again:
                self.enter()

    def on_mouse_scroll_down(self) -> None:
        self.move(3)

    def on_mouse_scroll_up(self) -> None:
        self.move(-3)

    # -- keys -------------------------------------------------------------------------------------------------

    def subject(self) -> str:
        return self._key.partition("\0")[0]

    def enter(self) -> None:
        if self._key and self.DETAILS:
            self.post_message(self.Go(at(self.NAME, self.subject(), self.at_node)))

    def ask(self, filter: str | None = None, sort: str | None = None, trouble: bool | None = None) -> None:
        """Another filter or order: from the first page on."""
        if filter is not None:
            self.filter = filter
        if sort is not None:
            self.sort = sort
        if trouble is not None:
            self.trouble = trouble
        self.after, self.top, self.cursor, self._key = [], 0, 0, ""
        self._natural = []
        self.post_message(self.Changed(self))
        self.repaint()

    def sort_next(self) -> None:
        """By the next column; after the last one by the first."""
        laid = lay_out(self.columns, self._natural or [1] * len(self.columns), max(self.size.width - 2, 1),
                       wide=self.wide)
        paths = [column.path for column, _ in laid]
        by = self.sort.removeprefix("-")
        following = paths[(paths.index(by) + 1) % len(paths)] if by in paths else paths[0]
        numbers = {column.path for column in self.columns if column.right}
        self.ask(sort=f"-{following}" if following in numbers else following)

    def sort_turn(self) -> None:
        by = self.sort or self.KEY
        self.ask(sort=by.removeprefix("-") if by.startswith("-") else f"-{by}")

    def toggle_trouble(self) -> bool:
        """False: this table knows no problems."""
        if not self.TROUBLE:
            return False
        self.ask(trouble=not self.trouble)
        return True

    def toggle_wide(self) -> None:
        self.wide, self.left, self._natural = not self.wide, 0, []
        self.repaint()

    def turn_page(self, forward: bool) -> None:
        if forward and self.next:
            self.after.append(self.next)
        elif not forward and self.after:
            self.after.pop()
        else:
            return
        self.cursor, self.top, self._key = 0, 0, ""
        self.post_message(self.Changed(self))

    def fields(self) -> list[str]:
        """Names for the completion of filters and orders."""
        return [self.KEY, *(column.path for column in self.columns if column.path != self.KEY)]

    def value(self, path: str) -> Any:
        row: Mapping[str, Any] = self.row or {}
        return show.value_at(row, path)
