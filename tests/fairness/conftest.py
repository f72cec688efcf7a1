"""A node per file: all of its attacks meet the same one, as they would outside."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.node import Node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("fairness"))
    made.start()
    yield made
    made.process.kill9()
