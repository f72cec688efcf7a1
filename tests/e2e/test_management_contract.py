"""Schemathesis asks the management API of a real node whatever its own OpenAPI document allows, and more.

As test_contract.py does for the HTTP listener: no fault of ours, nothing undocumented, seeded.
"""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.e2e.test_contract import CHECKS
from tests.mesh.management.test_admin import durable_session
from tests.mesh.management.test_deadletters import buried
from tests.support.node import Node

EXAMPLES = 5            # per operation
BUDGET_S = 8.0          # shared by the operations; each is asked at least once
KNOWN = {"name": ("billing", "mqtt/away", "mqtt%2Faway"), "id": ("none",)}
LIVE = ("/api/v1/stream", "/api/v1/tail")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with something behind every path."""
    node = Node(tmp_path_factory.mktemp("contract")).start()
    durable_session(node, "away", "plant/#")
    buried(node, "billing", [b"one", b"two"])
    yield node
    node.kill9()


def test_no_answer_is_a_fault_or_undocumented(busy: Node) -> None:
    base = busy.url("console")
    document = schemathesis.openapi.from_url(f"{base}/api/v1/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= 40
    seen: Counter[tuple[str, int]] = Counter()
    with requests.Session() as session:
        for operation in operations:
            _explore(operation, session, base, seen, BUDGET_S / len(operations))
    assert busy.running and busy.get("/healthz").status == 200
    assert {path for path, _ in seen} == {operation.path for operation in operations}
    assert {200, 400, 404} <= {status for _, status in seen}
    assert "Traceback" not in busy.process.log_tail(), busy.process.log_tail()


def _explore(operation: object, session: requests.Session, base: str, seen: Counter[tuple[str, int]],
             budget_s: float) -> None:
    started = time.monotonic()
    made = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @st.composite
    def cases(draw):
        case = draw(made)
        for name, values in KNOWN.items():
            if name in (case.path_parameters or {}) and draw(st.booleans()):
                case.path_parameters[name] = draw(st.sampled_from(values))
        return case

    @seed(4)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases())
    def run(case) -> None:
        if time.monotonic() - started < budget_s or not any(path == operation.path for path, _ in seen):
            seen[operation.path, _ask(session, base, case)] += 1

    run()


def _ask(session: requests.Session, base: str, case: object) -> int:
    wanted = case.as_transport_kwargs(base_url=base)
    wanted.pop("timeout", None)
    with session.request(**wanted, timeout=60, stream=True) as response:
        if response.status_code == 200 and case.operation.path in LIVE and case.method == "GET":
            assert response.headers["Content-Type"].startswith("text/event-stream")
            return 200
        assert response.status_code < 500 or response.status_code in (503, 504), response.text
        case.validate_response(response, checks=CHECKS)
        return response.status_code
