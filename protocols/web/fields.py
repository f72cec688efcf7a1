"""Header fields of an HTTP request, read as RFC 9110 has them: list-valued ones from all their lines, others from one.

Every handler reads fields through here, on the HTTP, WebSocket and console listeners; a test (tests/protocols/
test_fields.py) looks for one that does not. A client, or any proxy on the way, may send a list in as many lines as it
likes (RFC 9110 §5.3). A field that is no list has one line: of two that differ, two readers could take each another.
Sans-IO.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multidict import MultiMapping


class FieldRepeated(ValueError):
    """A field that is no list stands in the request more than once. The text is safe to show."""


def list_of(headers: MultiMapping[str], name: str) -> list[str]:
    """The members of a list-valued field in their order, without empty ones.            Source: RFC 9110 §5.6.1"""
    return [member for line in headers.getall(name, ()) for member in members_of(line)]


def tokens_of(headers: MultiMapping[str], name: str) -> list[str]:
    """The same in lower case, for lists of tokens that have none."""
    return [member.lower() for member in list_of(headers, name)]


def one_of(headers: MultiMapping[str], name: str) -> str | None:
    """The value of a field that is no list. Raises FieldRepeated: it stands there twice.    Source: RFC 9110 §5.3"""
    lines = headers.getall(name, ())
    if len(lines) > 1:
        raise FieldRepeated(f"{name} stands in the request more than once")
    return lines[0] if lines else None


def has(headers: MultiMapping[str], name: str) -> bool:
    return name in headers


def cookie_of(headers: MultiMapping[str], name: str) -> str:
    """The value of a cookie, "" when there is none. Of two with the name the first.          Source: RFC 6265 §4.2"""
    for line in headers.getall("Cookie", ()):
        for pair in line.split(";"):
            found, equals, value = pair.strip().partition("=")
            if equals and found == name:
                return value
    return ""


def members_of(line: str) -> list[str]:
    """Of one line of a list. Split at the commas that are not inside of a quoted string."""
    if '"' not in line:
        return [member for part in line.split(",") if (member := part.strip(" \t"))]
    members: list[str] = []
    start = 0
    quoted = escaped = False
    for at, char in enumerate(line):
        if escaped:
            escaped = False
        elif quoted and char == "\\":                   # RFC 9110 §5.6.4
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            members.append(line[start:at].strip(" \t"))
            start = at + 1
    members.append(line[start:].strip(" \t"))
    return [member for member in members if member]
