"""The supply chain: the lock has what pyproject.toml asks for, the bill says it, licences are looked at."""
from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply", ROOT / ".ci" / "supply.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_locked_with_hashes(supply: ModuleType) -> None:
    """A new dependency: make lock."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    locked = supply.locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["demo"]]:
        wanted = Requirement(text)
        version, _ = locked[re.sub(r"[-_.]+", "-", wanted.name).lower()]
        assert Version(version) in wanted.specifier, f"{text}: requirements.lock has {version}; make lock"
    assert all(hashes for _, hashes in locked.values())
    assert not [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("--")]


def test_the_bill_of_materials_lists_all_of_it(supply: ModuleType, tmp_path: Path) -> None:
    assert supply.main(["sbom", str(tmp_path / "out" / "sbom.json")]) == 0
    bill: dict[str, Any] = json.loads((tmp_path / "out" / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert [one["name"] for one in bill["components"]] == list(supply.locked())
    assert all(one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}" and one["hashes"]
               for one in bill["components"])
    references = {one["bom-ref"] for one in bill["components"]}
    assert len(references) == len(bill["components"]) and set(bill["dependencies"][0]["dependsOn"]) == references
    assert supply.bill() == bill                        # the same lock, the same bill


def test_licences(supply: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert supply.licences() == 0
    assert "msgspec" in capsys.readouterr().out
    for licence, fine in (("MIT", True), ("Apache-2.0 OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False),
                          ("AGPL-3.0-or-later", False), ("unknown", False), ("(MIT OR Apache-2.0)", True)):
        assert supply.is_allowed(licence) is fine, licence
    monkeypatch.setattr(supply, "licence_of", lambda name: "GPL-3.0-only")
    assert supply.licences() == 1
