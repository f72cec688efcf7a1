"""RabbitMQ's Java client and PerfTest, with their jars from Maven Central in .peers/rabbitmq/."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import require_peer

REPOSITORY = Path(__file__).parents[2]
JARS = REPOSITORY / ".peers" / "rabbitmq"
POM = REPOSITORY / "tests" / "interop" / "rabbitmq_tools" / "pom.xml"


def install() -> None:
    """Fetch the jars if they are not there. Skips (or fails, see require_peer) without a JDK or Maven."""
    require_peer(shutil.which("javac"), "a JDK")
    if list(JARS.glob("amqp-client-*.jar")):
        return
    require_peer(shutil.which("mvn"), "mvn")
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"],
        capture_output=True, text=True, timeout=600)
    require_peer(done.returncode == 0,
                 f"RabbitMQ's Java client from Maven Central ({done.stdout[-300:]}{done.stderr[-300:]})")
