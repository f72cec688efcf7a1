"""Apache Kafka's own kafka-dump-log (class org.apache.kafka.tools.DumpLogSegments), with its jars from Maven Central.

The jars are copied once into .peers/kafka/ by tests/interop/kafka_tools/pom.xml.
"""
from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import require_peer

REPOSITORY = Path(__file__).parents[2]
JARS = REPOSITORY / ".peers" / "kafka"
POM = REPOSITORY / "tests" / "interop" / "kafka_tools" / "pom.xml"

_BATCH = re.compile(r"^baseOffset: (\d+) lastOffset: (\d+) count: (\d+) .* isvalid: (\w+)$", re.MULTILINE)
# Kafka 4.4 begins to count at -1 in every segment, its own as well
_FIRST = re.compile(r"^Non-consecutive offsets in .*\n +-1 is followed by \d+$", re.MULTILINE)
_RECORD = re.compile(r"^\| offset: (\d+) (?:\w+): (-?\d+) keySize: (-?\d+) valueSize: (-?\d+) .*?"
                     r"headerKeys: \[(.*?)\](?: key: (.*?))?(?: payload: (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class DumpedRecord:
    offset: int
    timestamp_ms: int
    header_names: list[str]
    key: str
    payload: str


def install() -> None:
    """Fetch the jars if they are not there. Skips (or fails, see require_peer) without java or mvn."""
    require_peer(shutil.which("java"), "java")
    if list(JARS.glob("kafka_2.13-*.jar")):
        return
    require_peer(shutil.which("mvn"), "mvn")
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"],
        capture_output=True, text=True, timeout=600)
    require_peer(done.returncode == 0, f"Apache Kafka from Maven Central ({done.stdout[-300:]}{done.stderr[-300:]})")


def dump_log(*files: Path, options: tuple[str, ...] = (), gaps: bool = False) -> str:
    """What kafka-dump-log prints about the files; fails when it reports an error.

    gaps: records are missing on purpose, as after compaction, which it points out there too.
    """
    done = subprocess.run(
        ["java", "-cp", f"{JARS}/*", "org.apache.kafka.tools.DumpLogSegments", *options, "--files",
         ",".join(map(str, files))],
        capture_output=True, text=True, timeout=120)
    output = done.stdout + "\n".join(line for line in done.stderr.splitlines() if not line.startswith("SLF4J"))
    assert done.returncode == 0, output
    output = _FIRST.sub("", output)
    for complaint in ("isvalid: false", "Mismatches", "Exception", "Found timestamp", "not found", "Non-consecutive",
                      "invalid bytes"):
        if complaint == "Non-consecutive" and gaps:
            continue
        assert complaint not in output, f"{complaint}: {output[-2_000:]}"
    return output


def batches(output: str) -> list[tuple[int, int, int]]:
    """Base offset, last offset and record count of each batch."""
    found = _BATCH.findall(output)
    assert all(valid == "true" for *_, valid in found)
    return [(int(base), int(last), int(count)) for base, last, count, _ in found]


def records(output: str) -> list[DumpedRecord]:
    return [DumpedRecord(int(offset), int(timestamp), [name for name in names.split(",") if name], key, payload)
            for offset, timestamp, _, _, names, key, payload in _RECORD.findall(output)]
