"""A widget that is lines of characters. It repaints only lines that have changed: over ssh each byte counts.

Subclasses give lines(width, height) → as many Lines as they have; the widget cuts them to what is in sight.
"""
from __future__ import annotations

from collections.abc import Mapping

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.line import BAD, BLANK, TEXT, Line, trimmed
from tui.widgets.palette import palette

UNEXPECTED = (KeyError, TypeError, ValueError, AttributeError, IndexError)      # of a node of another version


class Lines(Widget):
    """repaint() after every change of what lines() reads."""

    DEFAULT_CSS = "Lines { width: 1fr; height: 1fr; }"

    def __init__(self, **options: str) -> None:
        super().__init__(**options)     # type: ignore[arg-type]
        self.stale = False              # the figures are old: all of it is grey
        self.top = 0                    # the first line in sight
        self._strips: list[Strip] = []
        self.count = 0                  # lines that there are

    def lines(self, width: int, height: int) -> list[Line]:
        """All of it, or (see scrolls) what is in sight."""
        raise NotImplementedError

    scrolls = True                      # False: lines() gives exactly what is in sight

    def repaint(self, *, whole: bool = False, strict: bool = False) -> None:
        """strict: raise what lines() raises over an answer that it does not understand; else a word stands there."""
        width, height = self.size
        if not width or not height or not self.is_attached:
            return
        try:
            found = self.lines(width, height)
        except UNEXPECTED as error:
            if strict:
                raise
            found = [BLANK, Line([("  ", TEXT), (f"This cannot be shown: {error!r}", BAD)])]
        self.count = len(found)
        if self.scrolls:
            self.top = max(min(self.top, self.count - height), 0)
            found = found[self.top:self.top + height]
        styles = palette(self.app.current_theme.dark, self._few_colours(), self.stale)
        blank = [BLANK] * (height - len(found))
        strips = [self._strip(line, width, styles) for line in (*found, *blank)]
        before, self._strips = self._strips, strips
        if whole or len(before) != len(strips):
            self.refresh()
            return
        for y, strip in enumerate(strips):
            if strip != before[y]:
                self.refresh(Region(0, y, width, 1))

    def _few_colours(self) -> bool:
        return self.app.console.color_system in (None, "standard")

    def _strip(self, line: Line, width: int, styles: Mapping[str, Style]) -> Strip:
        segments = [Segment(text, styles[role]) for text, role in trimmed(line, width).pieces]
        strip = Strip(segments).adjust_cell_length(width)
        return strip.apply_style(styles["marked"]) if line.marked else strip

    def render_line(self, y: int) -> Strip:
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def on_resize(self, event: events.Resize) -> None:
        self.repaint(whole=True)

    def on_mount(self) -> None:
        self.repaint(whole=True)

    def set_stale(self, stale: bool) -> None:
        if stale != self.stale:
            self.stale = stale
            self.repaint()

    @property
    def text(self) -> list[str]:
        """What is in sight, for tests and for the clipboard."""
        return [strip.text.rstrip() for strip in self._strips]
