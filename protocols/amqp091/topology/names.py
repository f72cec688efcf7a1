"""Exchange and routing key <-> topic of the mesh, and binding keys <-> topic filters.

    exchange x, key a.b          ↔  x/a/b                   binding keys of a topic exchange: * is +, # at the end is #
    amq.topic, key a.b           ↔  a/b                     (the topics of all protocols)
    default exchange, key jobs   ↔  $queue/jobs

Nothing that is literal in one grammar becomes a mark in the other: what is / + # % or a first $ in a key is %2F %2B %23
%25 %24 in the topic; a dot of a topic is %2E in the key, and a % of a topic that begins none of these codes is %%.
"""
from __future__ import annotations

from routing.queues.options import straight_topic

TOPIC_EXCHANGE = "amq.topic"
_TO_TOPIC = {"/": "%2F", "+": "%2B", "#": "%23"}
_CODES = ("2F", "2B", "23", "25")
_FROM_TOPIC = {"%2F": "/", "%2B": "+", "%23": "#", "%25": "%"}


def topic_of(exchange: str, key: str) -> str:
    """The topic of a message."""
    if exchange == TOPIC_EXCHANGE:
        if not key:
            return exchange
        topic = _key_to_topic(key)
        return "%24" + topic[1:] if topic[0] == "$" else topic
    if not exchange:
        return queue_topic(key)
    prefix = level_of(exchange)
    return f"{prefix}/{_key_to_topic(key)}" if key else prefix


def queue_topic(queue: str) -> str:
    """Straight to a queue."""
    return straight_topic(core_name(queue))


def core_name(queue: str) -> str:
    """The name of its consumer: one with a slash is that of a session of some protocol, so there is none in it."""
    return queue.replace("%", "%25").replace("/", "%2F")


def queue_name(core: str) -> str:
    return core.replace("%2F", "/").replace("%25", "%")


def level_of(name: str) -> str:
    """A name as one level of a topic; dots stay dots."""
    if "%" in name or "/" in name or "+" in name or "#" in name:
        name = "".join([_TO_TOPIC.get(char, "%25" if char == "%" else char) for char in name])
    return "%24" + name[1:] if name[:1] == "$" else name


def _key_to_topic(key: str, place: int = 0) -> str:
    """place: of its first character in the whole key, as far as it matters: 0 or not."""
    if "%" not in key and "/" not in key and "+" not in key and "#" not in key:
        return key.replace(".", "/")
    parts: list[str] = []
    index = 0
    while index < len(key):
        char = key[index]
        if char == "%" and key[index:index + 3] == "%2E":
            parts.append(".")
            index += 3
        elif char == "%" and key[index:index + 2] == "%%" and not _is_code(key, index + 2, place + index):
            parts.append("%")
            index += 2
        else:
            parts.append("/" if char == "." else "%25" if char == "%" else _TO_TOPIC.get(char, char))
            index += 1
    return "".join(parts)


def _is_code(text: str, index: int, position: int) -> bool:
    """Two digits after a % at this position of a topic that stand for something."""
    digits = text[index:index + 2]
    return digits in _CODES or (digits == "24" and position == 0)


def key_of(topic: str) -> str:
    """The routing key, on amq.topic, of an event that did not come by AMQP."""
    parts: list[str] = []
    if topic[:3] == "%24":
        parts.append("$")
        topic = topic[3:]
    if "%" not in topic and "." not in topic:
        return "".join((*parts, topic.replace("/", ".")))
    index = 0
    while index < len(topic):
        known = _FROM_TOPIC.get(topic[index:index + 3])
        if known is not None:
            parts.append(known)
            index += 3
            continue
        char = topic[index]
        parts.append("." if char == "/" else "%2E" if char == "." else "%%" if char == "%" else char)
        index += 1
    return "".join(parts)


def direct_filter(exchange: str, key: str) -> str:
    return topic_of(exchange, key)


def fanout_filter(exchange: str) -> str:
    return "#" if exchange == TOPIC_EXCHANGE else level_of(exchange) + "/#"


def topic_filter(exchange: str, pattern: str) -> tuple[str, bool]:
    """The topic filter of a binding key, and whether it is exact: one with # before its end matches more."""
    words = pattern.split(".") if pattern else []
    levels: list[str] = [] if exchange == TOPIC_EXCHANGE else [level_of(exchange)]
    exact = True
    for index, word in enumerate(words):
        if word == "#":
            levels.append("#")
            exact = all(later == "#" for later in words[index + 1:])
            break
        levels.append("+" if word == "*" else _key_to_topic(word, index))
    if not levels:
        return TOPIC_EXCHANGE, True
    first = levels[0]
    if exchange == TOPIC_EXCHANGE and first[:1] == "$":
        levels[0] = "%24" + first[1:]
    return "/".join(levels), exact
