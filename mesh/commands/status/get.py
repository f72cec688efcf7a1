"""`meshgate get RESOURCE`: any list of the management API, whole, as text, JSON, NDJSON or CSV.

For scripts and screen readers. Goes through all pages; CSV and JSON come from the node as it makes them.
"""
from __future__ import annotations

import argparse
import sys
from urllib.parse import urlencode

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client, add_options
from mesh.commands.client.table import format_table
from tui.show import plain

FORMATS = ("text", "json", "ndjson", "csv")
PAGE_ROWS = 10_000
TEXT_FIELDS = {
    "nodes": "name,site,hops,version,skew_ms,age_s,interest",
    "links": "id,node,state,rtt_ms,sent.bytes_s,received.bytes_s,backlog.seconds,lag_events,lag_seconds,forecast,"
             "last_error",
    "streams": "name,capture,partitions,events,size_bytes,retention_ms,durability,failed",
    "consumers": "name,state,lag_events,lag_seconds,trend,forecast,members,in_flight,redelivered",
    "queues": "name,state,ready,unacked,members,lag_seconds,redelivered,dead_lettered",
    "exchanges": "name,type,bindings,durable,auto_delete,internal,alternate",
    "bindings": "source,destination,to,key,arguments",
    "groups": "group,state,lag_events,lag_seconds,members,topics",
    "transactions": "transactional_id,state,age_s,timeout_s,places,user",
    "topics": "topic,events,below,topics,streams",
    "deadletters": "consumer,state,waiting,given_up,max_deliveries,topic",
    "clients": "client_id,protocol,user,address,connected",
    "webhooks": "consumer,url,state,lag_events,delivered,failed,dead_lettered,last_problem",
    "bridges": "name,direction,from,to,state,lag_events,moved,faults,last_problem",
    "policies": "name,allow,deny,to,topics",
    "users": "name,source,state,roles,password",
    "keys": "name,source,state,user,roles",
    "roles": "name,state,by",
    "peers": "name,source,state",
    "drafts": "name,documents,by,time_ms,reason",
    "revisions": "revision,time_ms,by,source,documents,reason",
    "conflicts": "name,kept_by,gave_way_by,time_ms",
    "logins": "id,user,kind,address,since_ms,idle_s",
    "masks": "name,source,state,topics,fields,headers,key,payload,shown_to",
    "quotas": "name,state,users,connections,consumers,queues,by",
    "denials": "id,time,user,client_id,protocol,action,topic,rule",
    "audit": "id,time_ms,user,address,act,target,outcome,reason",
    "listeners": "address,protocol,tls",
}


def add_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("resource", choices=sorted(TEXT_FIELDS))
    parser.add_argument("-o", "--output", choices=FORMATS, default="text")
    parser.add_argument("--mesh", action="store_true", help="of all nodes, each row with `at`, its node")
    parser.add_argument("--filter", default="", metavar="TERMS", help="rows that are wanted: 'lag_events>9 state=away'")
    parser.add_argument("--sort", default="", metavar="COLUMNS", help="a minus sorts downwards: -lag_events,name")
    parser.add_argument("--fields", default="", metavar="COLUMNS", help="columns that are wanted: name,backlog.seconds")
    parser.add_argument("--limit", type=int, metavar="ROWS", help="at most so many (default: all)")
    add_options(parser, "console")
    parser.set_defaults(run=run_get)


def run_get(options: argparse.Namespace) -> int:
    if options.limit is not None and options.limit < 1:
        raise CommandError("--limit is at least 1")
    client = Client(options)
    if options.output == "csv":
        return _csv(client, options)
    fields = options.fields or (TEXT_FIELDS[options.resource] if options.output == "text" else "")
    rows: list[dict[str, object]] = []
    after = ""
    while True:
        page, after = _page(client, options, fields, after, len(rows))
        if options.output == "ndjson":
            sys.stdout.writelines(msgspec.json.encode(row).decode() + "\n" for row in page)
        rows += page
        if not after or (options.limit is not None and len(rows) >= options.limit):
            break
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(rows)).decode())
    elif options.output == "text":
        columns = ["at"] * options.mesh + [name.strip() for name in fields.split(",") if name.strip()]
        print(format_table(columns, [[_shown(name, row.get(name)) for name in columns] for row in rows]))
    return 0


def _shown(name: str, value: object) -> object:
    """A number that is one stays one (it goes to the right); what has a unit gets it."""
    counts = isinstance(value, int) and not name.endswith(("_ms", "_s", "bytes", "seconds"))
    return value if counts or value is None or isinstance(value, (bool, list)) else plain(name, value)


def _page(client: Client, options: argparse.Namespace, fields: str, after: str,
          count: int) -> tuple[list[dict[str, object]], str]:
    answer = client.json(_path(options, fields, after, count))
    try:
        known = msgspec.convert(answer, dict[str, object])
        return msgspec.convert(known[options.resource], list[dict[str, object]]), str(known["next"] or "")
    except (msgspec.ValidationError, KeyError) as error:
        raise CommandError("the node's answer is not what this version expects") from error


def _path(options: argparse.Namespace, fields: str, after: str, count: int) -> str:
    limit = PAGE_ROWS if options.limit is None else min(PAGE_ROWS, options.limit - count)
    given = {"scope": "mesh" if options.mesh else "", "filter": options.filter, "sort": options.sort,
             "fields": fields, "after": after, "limit": str(limit)}
    return f"/api/v1/{options.resource}?{urlencode({name: value for name, value in given.items() if value})}"


def _csv(client: Client, options: argparse.Namespace) -> int:
    """One page after the other, the header of the first alone."""
    after, count, first = "", 0, True
    while True:
        response = client.request("GET", _path(options, options.fields, after, count), headers={"Accept": "text/csv"})
        with response:
            head, _, rest = response.read().partition(b"\n")
        sys.stdout.buffer.write(head + b"\n" + rest if first else rest)
        count += rest.count(b"\n")
        after = response.headers.get("X-Next", "").encode().decode("unicode_escape")
        first = False
        if not after or (options.limit is not None and count >= options.limit):
            sys.stdout.buffer.flush()
            return 0
