"""The supply chain: licences, a software bill of materials, known vulnerabilities. Called by the Makefile.

    python .ci/supply.py licences            every package of requirements.lock with its licence; 1: one is not allowed
    python .ci/supply.py sbom FILE           CycloneDX 1.5 (JSON)
    python .ci/supply.py audit               pip-audit; 1: something is known to be vulnerable

Source: CycloneDX 1.5 JSON, Package URL (purl), SPDX licence list.
"""
from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import uuid
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
# Licences that a gateway under Apache-2.0 may be shipped with. One that is not here is looked at by somebody first.
ALLOWED = {"MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD", "ISC", "PSF-2.0", "MPL-2.0", "0BSD",
           "Unlicense", "Python-2.0"}
NAMES = {
    "mit": "MIT", "mit license": "MIT", "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "apache software license 2.0": "Apache-2.0", "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause", "3-clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause", "bsd-3-clause license": "BSD-3-Clause", "the mit license": "MIT",
    "python software foundation license": "PSF-2.0", "psf": "PSF-2.0", "psf-2.0": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "isc license (iscl)": "ISC", "isc license": "ISC",
}
NOT_AUDITED = "could not be audited"


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name as it is normalized → version, SHA-256 hashes."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in LOCK.read_text().splitlines():
        pin = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", line)
        if pin:
            name = re.sub(r"[-_.]+", "-", pin[1]).lower()
            found[name] = pin[2], []
        for digest in re.findall(r"--hash=sha256:([0-9a-f]{64})", line):
            found[name][1].append(digest)
    return found


def licence_of(name: str) -> str:
    """As SPDX names it; "unknown" for a package that says nothing, "not installed" for one that is not here."""
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "not installed"
    expression = about.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or [] if one.startswith("License")]
    text = next((one for one in classifiers if one != "OSI Approved"), "") or (about.get("License") or "").strip()
    first = text.splitlines()[0].strip() if text else ""
    return NAMES.get(first.lower(), first[:60] or "unknown")


def is_allowed(licence: str) -> bool:
    """Of an expression with OR one must be allowed, of one with AND all of them."""
    choices = re.split(r"\s+OR\s+", licence.replace("(", " ").replace(")", " ").strip())
    return any(all(part.strip() in ALLOWED for part in re.split(r"\s+AND\s+|\s*;\s*", choice)) for choice in choices)


def licences() -> int:
    bad = 0
    for name, (version, _) in locked().items():
        licence = licence_of(name)
        fine = is_allowed(licence) or licence == "not installed"        # of another platform
        bad += not fine
        print(f"{name:<24} {version:<12} {licence}{'' if fine else '   NOT ALLOWED'}")
    return int(bad > 0)


def bill() -> dict[str, object]:
    """The bill of materials. The serial number is made of the lock, so the same lock gives the same bill."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    components = []
    for name, (version, hashes) in locked().items():
        licence = licence_of(name)
        component: dict[str, object] = {
            "type": "library", "bom-ref": f"pkg:pypi/{name}@{version}", "name": name, "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes]}
        if licence not in ("unknown", "not installed"):
            component["licenses"] = [{"expression": licence} if " " in licence else {"license": {
                "id" if licence in ALLOWED - {"BSD"} else "name": licence}}]
        components.append(component)
    reference = f"pkg:pypi/{project['name']}@{project['version']}"
    serial = uuid.UUID(bytes=hashlib.sha256(LOCK.read_bytes()).digest()[:16], version=4)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": reference, "name": project["name"], "version": project["version"],
            "purl": reference, "licenses": [{"license": {"id": project["license"]}}]}},
        "components": components,
        "dependencies": [{"ref": reference, "dependsOn": [str(one["bom-ref"]) for one in components]}],
    }


def audit() -> int:
    """A machine that cannot ask is told so; it is no green, and no red either."""
    done = subprocess.run([sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--disable-pip", "--progress-spinner",
                           "off"], capture_output=True, text=True, timeout=300, check=False)
    print(done.stdout + done.stderr, end="")
    if "No module named" in done.stderr:
        print("pip-audit is not installed: make audit installs it")
        return 1
    skipped = done.stdout.count(NOT_AUDITED)
    if skipped:
        print(f"{skipped} packages could not be looked up from this machine")
    return int(re.search(r"Found \d+ known vulnerabilit", done.stdout + done.stderr) is not None)


def main(words: list[str]) -> int:
    if words[:1] == ["licences"]:
        return licences()
    if words[:1] == ["audit"]:
        return audit()
    if words[:1] == ["sbom"] and len(words) == 2:
        path = Path(words[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(bill(), indent=1) + "\n")
        print(path)
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
