"""`meshgate status`, `streams`, `consumers`, `webhooks`, `clients`, `denials`; what can be done to those."""
from __future__ import annotations

import argparse
from urllib.parse import quote

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client, add_options
from mesh.commands.client.table import format_table
from mesh.process.logs import one_line
from mesh.values.units import format_duration, format_size

Rows = list[dict[str, object]]


def add_status(parser: argparse.ArgumentParser) -> None:
    _add(parser)
    parser.set_defaults(run=show_status)


def add_streams(parser: argparse.ArgumentParser) -> None:
    _add(parser)
    parser.set_defaults(run=show_streams)


def add_clients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("kick",), help="kick: close the client's connection")
    parser.add_argument("name", nargs="?", help="client id")
    _add(parser)
    parser.set_defaults(run=show_clients)


def add_webhooks(parser: argparse.ArgumentParser) -> None:
    _add(parser)
    parser.set_defaults(run=show_webhooks)


def add_denials(parser: argparse.ArgumentParser) -> None:
    _add(parser)
    parser.set_defaults(run=show_denials)


def add_consumers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("seek", "pause", "resume", "delete"))
    parser.add_argument("name", nargs="?", help="consumer")
    parser.add_argument("--to", metavar="PLACE", help="seek: earliest, latest, an offset, or a time such as "
                        "2026-01-31T12:00:00Z")
    parser.add_argument("--stream", help="seek to an offset: the stream that it belongs to")
    parser.add_argument("--partition", type=int, help="seek to an offset: the partition that it belongs to")
    _add(parser)
    parser.set_defaults(run=show_consumers)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    add_options(parser, "console")


def _fetch(options: argparse.Namespace, path: str) -> dict[str, object]:
    answer = Client(options).json(path)
    if not isinstance(answer, dict):
        raise CommandError("the node's answer is not what this version expects")
    return answer


def _print_json(answer: object) -> int:
    print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    return 0


def _rows(answer: dict[str, object], name: str) -> Rows:
    try:
        return msgspec.convert(answer.get(name), Rows)
    except msgspec.ValidationError as error:
        raise CommandError("the node's answer is not what this version expects") from error


def show_status(options: argparse.Namespace) -> int:
    answer = _fetch(options, "/api/v1/status")
    if options.json:
        return _print_json(answer)
    for name, value in answer.items():
        if name == "listeners":
            for listener in _rows(answer, name):
                print(f"{'listens':<16} {listener['protocol']} on {', '.join(_texts(listener['addresses']))}"
                      f"{' (TLS)' if listener['tls'] else ''}")
        elif isinstance(value, list):               # problems, damage: only when there are any
            for line in _texts(value):
                print(f"{name:<16} {one_line(line)}")
        elif isinstance(value, (str, int, float)) and name != "started_ms":
            label = name.removesuffix("_s").removesuffix("_bytes").replace("_", " ")
            print(f"{label:<16} {_shown(name, value)}")
    return 0


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _shown(name: str, value: str | int | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and name.endswith("_bytes"):
        return format_size(value)
    if isinstance(value, (int, float)) and name.endswith("_s"):
        return format_duration(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def show_streams(options: argparse.Namespace) -> int:
    answer = _fetch(options, "/api/v1/streams")
    if options.json:
        return _print_json(answer)
    rows = [
        [stream["name"], stream["capture"], stream["partitions"], stream["events"],
         format_size(_number(stream["size_bytes"])), stream["durability"], stream["failed"] or "ok"]
        for stream in _rows(answer, "streams")
    ]
    print(format_table(["stream", "captures", "partitions", "events", "size", "durability", "state"], rows))
    return 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _lag(row: dict[str, object]) -> str:
    """The number, or that it is not known yet."""
    counting = row.get("lag_state") == "counting"
    return f"{row['lag_events']} (counting)" if counting else str(row["lag_events"])


def show_consumers(options: argparse.Namespace) -> int:
    if options.action is not None:
        return _act_on_consumer(options)
    answer = _fetch(options, "/api/v1/consumers")
    if options.json:
        return _print_json(answer)
    rows = [
        [consumer["name"], consumer["mode"], consumer["filters"], consumer["members"], _lag(consumer),
         format_duration(_number(consumer["lag_seconds"])), consumer["in_flight"], consumer["redelivered"],
         "paused" if consumer["paused"] else "durable" if consumer["durable"] else "live"]
        for consumer in _rows(answer, "consumers")
    ]
    print(format_table(
        ["consumer", "mode", "filters", "members", "lag", "behind", "in flight", "redelivered", "state"], rows))
    return 0


def show_webhooks(options: argparse.Namespace) -> int:
    answer = _fetch(options, "/api/v1/webhooks")
    if options.json:
        return _print_json(answer)
    rows = [
        [webhook["consumer"], one_line(str(webhook.get("url", "–"))), webhook["state"], _lag(webhook),
         format_duration(_number(webhook["lag_seconds"])), webhook.get("delivered", 0), webhook.get("failed", 0),
         webhook.get("dead_lettered", 0), one_line(str(webhook.get("last_problem", "")))]
        for webhook in _rows(answer, "webhooks")
    ]
    print(format_table(
        ["webhook", "url", "state", "lag", "behind", "delivered", "failed", "given up", "last problem"], rows))
    return 0


def _act_on_consumer(options: argparse.Namespace) -> int:
    if options.name is None:
        raise CommandError(f"which consumer? meshgate consumers {options.action} NAME")
    body = None
    if options.action == "seek":
        if options.to is None:
            raise CommandError("seek needs --to earliest, latest, an offset or a time")
        place: dict[str, str | int] = {"to": int(options.to) if options.to.isdigit() else options.to}
        if options.stream is not None:
            place["stream"] = options.stream
        if options.partition is not None:
            place["partition"] = options.partition
        body = msgspec.json.encode(place)
    path = f"/api/v1/consumers/{quote(options.name, safe='')}"
    if options.action == "delete":
        answer = Client(options).json(path, "DELETE")
    else:
        answer = Client(options).json(f"{path}/{options.action}", "POST", body or b"{}")
    return _print_json(answer) if options.json else _done(f"{options.action}: {options.name}")


def _done(text: str) -> int:
    print(text)
    return 0


def show_clients(options: argparse.Namespace) -> int:
    if options.action is not None:
        if options.name is None:
            raise CommandError("which client? meshgate clients kick CLIENT_ID")
        answer = Client(options).json(f"/api/v1/clients/{quote(options.name, safe='')}/kick", "POST", b"{}")
        return _print_json(answer) if options.json else _done(f"kicked {options.name}")
    answer = _fetch(options, "/api/v1/clients")
    if options.json:
        return _print_json(answer)
    rows = [
        [client.get("client_id"), client.get("protocol"), client.get("user"), client.get("address"),
         "connected" if client.get("connected", True) else "away"]
        for client in _rows(answer, "clients")
    ]
    print(format_table(["client", "protocol", "user", "address", "state"], rows))
    return 0


def show_denials(options: argparse.Namespace) -> int:
    answer = _fetch(options, "/api/v1/denials")
    if options.json:
        return _print_json(answer)
    rows = [
        [denial["id"], denial["time"], denial["user"], denial["client_id"], denial["protocol"], denial["action"],
         denial["topic"], denial["rule"]]
        for denial in _rows(answer, "denials")
    ]
    print(format_table(["no", "time", "user", "client", "protocol", "action", "topic", "rule"], rows))
    if rows:
        print(f"what would allow it: meshgate why {rows[0][0]}")
    return 0
