"""Schemathesis asks a real node whatever its own OpenAPI document allows, and much that it does not.

No answer is a 5xx that says that we failed, none is undocumented: status, content type, header fields and the shape of
the body are as the document says. Seeded, so that a failure is the same one the next time.
"""
from __future__ import annotations

import json
import time
from collections import Counter

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
EXAMPLES = 15           # per operation and mode
BUDGET_S = 30.0         # shared by the operations; each is asked at least once
HTTP = """
[http]
pull_wait_max_s = 0.2
request_timeout_s = 0.2
request_timeout_max_s = 0.3
"""
KNOWN = {"name": ("billing", "events"), "topic": ("a/b", "%C3%BC"), "filter": ("%23", "a/+"), "kind": ("not-found",)}
STREAMING = "text/event-stream"


@pytest.fixture
def busy(node_factory):
    """A node with something behind every path."""
    node = node_factory(extra=HTTP)
    base = node.url("http")
    for number in range(5):
        node.publish(f"a/{number}", b"x", {"Meshgate-Retain": "true", "Meshgate-Key": "k"})
    body = json.dumps({"filters": ["#"], "start": "earliest", "max_deliveries": 3}).encode()
    assert requests.put(f"{base}/v1/consumers/billing", data=body, timeout=60).status_code == 201
    return node


def cases(operation):
    """Requests for an operation, good and bad ones; often with a name behind which there is something."""
    made = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @st.composite
    def with_known_names(draw):
        case = draw(made)
        for name, values in KNOWN.items():
            if name in (case.path_parameters or {}) and draw(st.booleans()):
                case.path_parameters[name] = draw(st.sampled_from(values))
        return case
    return with_known_names()


def ask(session, base, case):
    """One request; a stream that never ends is looked at and left."""
    wanted = case.as_transport_kwargs(base_url=base)
    wanted.pop("timeout", None)
    with session.request(**wanted, timeout=60, stream=True) as response:
        if response.headers.get("Content-Type", "").startswith(STREAMING):
            assert response.status_code == 200 and case.operation.path == "/v1/events", response.headers
            return response.status_code
        nobody_answers = response.status_code == 504 and case.operation.path.startswith("/v1/requests/")
        assert response.status_code < 500 or nobody_answers, response.text
        case.validate_response(response, checks=CHECKS)
        return response.status_code


def explore(operation, session, base, seen, budget_s):
    """Ask for one operation, as long as there is time; at least once. Counts in seen."""
    started = time.monotonic()

    @seed(4)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases(operation))
    def run(case):
        if time.monotonic() - started < budget_s or not any(path == operation.path for path, _ in seen):
            seen[operation.path, ask(session, base, case)] += 1

    run()


def test_no_answer_is_a_fault_or_undocumented(busy):
    base = busy.url("http")
    document = schemathesis.openapi.from_url(f"{base}/v1/openapi.json")
    started = time.monotonic()
    seen: Counter[tuple[str, int]] = Counter()
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= 25
    with requests.Session() as session:
        for operation in operations:
            explore(operation, session, base, seen, BUDGET_S / len(operations))
    assert busy.running and busy.get("/healthz").status == 200
    assert {path for path, _ in seen} == {operation.path for operation in operations}
    statuses = {status for _, status in seen}
    assert {200, 400, 404} <= statuses, statuses
    log = busy.process.log_tail()
    assert "Traceback" not in log, log
    print(f"\n{sum(seen.values())} requests, {len(operations)} operations, {time.monotonic() - started:.0f} s:",
          dict(sorted(Counter(status for _, status in seen.elements()).items())))
