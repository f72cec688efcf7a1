"""examples/ for operators: the image, three sites of compose, Kubernetes, systemd, Prometheus and Grafana.

There is no container engine in the tests. The steps of the image that cost little are done in a folder: what is copied
into it must be there and be let through, a package is made of that and nothing else, and the node that runs from it is
asked by the image's own health check. Configurations are run, with other addresses in them.
"""
from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from mesh.identity.users import hash_password
from mesh.link.protocol.health import LinkState
from mesh.management.figures.metrics import BRIDGE_STATES, WEBHOOK_STATES
from mesh.system.loopwatch import BUCKETS_S
from routing.errors import Reason
from tests.support.certificates import Certificates
from tests.support.node import COMMAND, HOST, ROOT, Node, http, meshgate
from tests.support.ports import free_port
from tests.support.process import ServerProcess
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until

EXAMPLES = ROOT / "examples"
CONTAINERFILE = EXAMPLES / "container" / "Containerfile"
PASSWORD = "correct horse"


# -- the image -------------------------------------------------------------------------------------------------------

def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Containerfile, continued lines joined."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.strip().partition(" ") for line in joined.splitlines())]


def given(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def ignored(path: str) -> bool:
    """By .dockerignore: the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            plain = pattern.lstrip("!")
            if fnmatch.fnmatch(path, plain) or path.startswith(f"{plain}/"):
                out = not pattern.startswith("!")
    return out


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the last stage has of ours: the package, unpacked."""
    folder = tmp_path_factory.mktemp("image")
    context = folder / "context"
    for rest in given("COPY"):
        if "--from" in rest:
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), f".dockerignore keeps {source} out"
            place = context / source
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    here = [] if int(version("setuptools").partition(".")[0]) < 77 else ["--no-build-isolation"]      # else pip gets it
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps",
                           *here, "-w", str(folder), str(context)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    package = next(folder.glob("meshgate-*.whl"))
    with zipfile.ZipFile(package) as opened:
        opened.extractall(folder / "package")
    return folder / "package"


class Plain:
    """A configuration of an example as it runs on one machine: free ports, and names of hosts that are this one."""

    def __init__(self, folder: Path, text: str, **more: str) -> None:
        """more: hosts → "host:port" that stands for them."""
        folder.mkdir()
        self.ports: dict[str, int] = {}
        section = ""
        lines = []
        for line in text.splitlines():
            section = line.split("]")[0].strip("[ ") if line.startswith("[") else section
            if section == "listeners" and (found := re.search(r'bind = "\*:(\d+)"', line)):
                port = self.ports[found[1]] = free_port()
                line = line.replace(found[0], f'bind = "{HOST}:{port}"')
            lines.append(line)
        text = "\n".join(lines)
        for host, place in more.items():
            text = re.sub(rf"//{host}:\d+", f"//{place}", text)
        self.data = folder / "data"
        text = text.replace('data = "/var/lib/meshgate"', f'data = "{self.data}"')
        self.config = folder / "node.toml"
        self.config.write_text(text)

    def started(self, *, environment: dict[str, str] | None = None, command: list[str] = COMMAND) -> ServerProcess:
        process = ServerProcess([*command, "up", "--config", str(self.config)], self.config.with_name("log"),
                                self.config.parent, {"PYTHONPATH": str(ROOT), **(environment or {})})
        process.start()
        return process

    def url(self, port: int, path: str = "") -> str:
        return f"http://{HOST}:{self.ports[str(port)]}{path}"

    def wait_ready(self, process: ServerProcess) -> None:
        def ready() -> bool:
            assert process.running, process.log_tail()
            try:
                return http("GET", self.url(8090, "/readyz"), timeout_s=2).status == 200
            except OSError:
                return False

        wait_until(ready, "the node is ready", also=process.log_tail)


def test_the_image_runs_and_its_health_check_agrees(image: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(image), "PYTHONUNBUFFERED": "1"}
    module = [sys.executable, "-P", "-m", "mesh.cli"]
    entry, arguments = json.loads(given("ENTRYPOINT")[0]), json.loads(given("CMD")[-1])
    assert entry == ["meshgate"] and arguments[:2] == ["up", "--config"]
    named = [rest.split()[1] for rest in given("COPY") if rest.startswith("examples/container/node.toml")]
    assert named == [arguments[2]], "the configuration is where the command looks for it"
    plain = Plain(tmp_path / "node", (EXAMPLES / "container" / "node.toml").read_text())
    assert set(plain.ports) <= set(given("EXPOSE")[0].split())
    process = plain.started(environment=environment, command=module)
    try:
        plain.wait_ready(process)
        where = subprocess.run([sys.executable, "-P", "-c", "import mesh, console; print(mesh.__path__[0])"],
                               env={**os.environ, **environment}, capture_output=True, check=True, text=True).stdout
        assert where.startswith(str(image)), "the package of the image, and no other"
        options, check = given("HEALTHCHECK")[0].split("CMD ")
        assert "--start-period" in options
        asked = json.loads(check)
        asked = [sys.executable, *asked[1:-1], asked[-1].replace(":8090", f":{plain.ports['8090']}")]
        assert subprocess.run(asked, check=False).returncode == 0
        password = re.search(r"user admin   password (\S+)", process.log_text())
        assert password is not None, "the first start says the password"
        login = {"MESHGATE_PASSWORD": password[1]}
        told = meshgate("pub", "a/b", "x", "--user", "admin", "--url", plain.url(8080), environment=login)
        assert told.stdout.startswith(b"stored as"), told.stderr
        assert http("GET", plain.url(8090, "/login")).status == 200, "the pages of the console are in the package"
        assert process.terminate() == 0
        assert subprocess.run(asked, capture_output=True, check=False).returncode != 0
    finally:
        process.kill9()


def test_what_the_image_installs_is_locked(image: Path) -> None:
    """The lines of RUN are those of the Makefile; what they name is in the image by then."""
    runs = " && ".join(given("RUN"))
    assert "--require-hashes -r requirements.lock" in runs and "--no-deps ." in runs
    known = subprocess.run([sys.executable, "-m", "pip", "install", "--help"], capture_output=True, check=True,
                           text=True).stdout
    for option in re.findall(r"--[a-z-]+", " ".join(run for run in given("RUN") if "pip install" in run)):
        assert option in known, option
    names = [name for name, _ in instructions()]
    user = given("USER")[0].split(":")
    assert f"--uid {user[0]}" in runs and user[0] != "0" and names.index("USER") < names.index("ENTRYPOINT")
    assert given("VOLUME")[0] in runs, "the folder of the data is made, and is the user's"


# -- three sites ------------------------------------------------------------------------------------------------------

def test_the_three_sites_of_compose_meet(tmp_path: Path) -> None:
    compose = yaml.safe_load((EXAMPLES / "compose" / "compose.yaml").read_text())
    assert set(compose["services"]) == {"cloud", "graz", "lyon"} == set(compose["volumes"])
    environment = {"ADMIN_HASH": hash_password(PASSWORD), "LINK_TOKEN": "a secret of 24 bytes"}
    taken: set[str] = set()
    nodes: dict[str, tuple[Plain, ServerProcess]] = {}
    try:
        for name, service in compose["services"].items():
            assert service["image"] == "meshgate" and service["env_file"] == ".env"
            source, target, mode = service["volumes"][0].split(":")
            assert target == "/etc/meshgate/node.toml" and mode == "ro"
            assert service["volumes"][1] == f"{name}:{given('VOLUME')[0]}"
            text = (EXAMPLES / "compose" / source).read_text()
            more = {} if name == "cloud" else {"cloud": f"{HOST}:{nodes['cloud'][0].ports['7420']}"}
            plain = Plain(tmp_path / name, text, **more)
            for published in service["ports"]:
                address, outside, inside = published.split(":")
                assert address == "127.0.0.1" and inside in plain.ports and outside not in taken
                taken.add(outside)
            nodes[name] = plain, plain.started(environment=environment)
        for plain, process in nodes.values():
            plain.wait_ready(process)
        cloud, graz = nodes["cloud"][0], nodes["graz"][0]
        login = {"MESHGATE_PASSWORD": PASSWORD}
        wait_until(lambda: meshgate("topology", "--url", cloud.url(8090), "--user", "ana", environment=login)
                   .stdout.count(b"plant-") >= 2, "all three have met", also=nodes["cloud"][1].log_tail)
        told = meshgate("pub", "plant/graz/lamp", "on", "--user", "ana", "--url", graz.url(8080), environment=login)
        assert told.returncode == 0, told.stderr
        read = meshgate("sub", "plant/#", "--from", "earliest", "--count", "1", "--user", "ana", "--url",
                        cloud.url(8080), environment=login)
        assert read.stdout == b"plant/graz/lamp on\n", read.stderr
    finally:
        for _, process in nodes.values():
            process.kill9()


# -- Kubernetes -------------------------------------------------------------------------------------------------------

def test_the_manifest_fits_the_image_and_its_configuration_is_one(tmp_path: Path, certificates: Certificates) -> None:
    found = list(yaml.safe_load_all((EXAMPLES / "kubernetes" / "meshgate.yaml").read_text()))
    by_kind: dict[str, list[dict]] = {}
    for one in found:
        by_kind.setdefault(one["kind"], []).append(one)
        assert one["metadata"]["namespace"] == "meshgate"
    stateful = by_kind["StatefulSet"][0]["spec"]
    pod = stateful["template"]["spec"]
    container = pod["containers"][0]
    text = by_kind["ConfigMap"][0]["data"]["node.toml"]

    assert stateful["replicas"] == 1
    assert str(pod["securityContext"]["runAsUser"]) == given("USER")[0].split(":")[0]
    assert container["args"] == json.loads(given("CMD")[-1])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[given("VOLUME")[0]] == stateful["volumeClaimTemplates"][0]["metadata"]["name"]
    assert f'data = "{given("VOLUME")[0]}"' in text
    assert set(mounts.values()) == {one["name"] for one in pod["volumes"]} | {"data"}

    plain = Plain(tmp_path / "node", text)
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert {str(port) for port in ports.values()} == set(plain.ports)
    labels = stateful["template"]["metadata"]["labels"]
    for service in by_kind["Service"]:
        assert service["spec"]["selector"].items() <= labels.items()
        assert {one["name"]: one["port"] for one in service["spec"]["ports"]}.items() <= ports.items()
    assert by_kind["Service"][0]["metadata"]["name"] == stateful["serviceName"]

    for folder, files in (("tls", {"tls.crt": certificates.server_cert, "tls.key": certificates.server_key}),
                          ("secrets", {})):
        (plain.config.parent / folder).mkdir()
        for name, file in files.items():
            shutil.copy(file, plain.config.parent / folder / name)
    (plain.config.parent / "secrets" / "plant-graz").write_text("a secret of 24 bytes")
    process = plain.started()
    try:
        plain.wait_ready(process)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert http("GET", plain.url(ports[asked["port"]], asked["path"])).status == 200
    finally:
        process.kill9()


# -- systemd ----------------------------------------------------------------------------------------------------------

def test_the_unit_is_one_and_its_command_is_understood(tmp_path: Path) -> None:
    text = (EXAMPLES / "systemd" / "meshgate.service").read_text()
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    program, *arguments = shlex.split(settings["ExecStart"])
    data = arguments[arguments.index("--data") + 1]
    assert data == f"/var/lib/{settings['StateDirectory']}"
    assert int(settings["TimeoutStopSec"]) > 10, "more than node.stop_timeout_s"
    from mesh.cli import make_parser

    assert make_parser("up").parse_args(arguments).command == "up"
    assert f"{Path(program).parent}/pip" in text, "what the head installs is what is started"
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        unit = tmp_path / "meshgate.service"
        unit.write_text(text.replace(program, "/bin/true"))
        done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stderr


# -- monitoring -------------------------------------------------------------------------------------------------------

NAME = re.compile(r"\b((?:meshgate|process)_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPED = re.compile(r"\b(?:by|on|ignoring|without) \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job"}


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of the dashboard and the alerts."""
    for group in yaml.safe_load((EXAMPLES / "monitoring" / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads((EXAMPLES / "monitoring" / "grafana.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Name of each series that a node exports → its labels, where it has a sample."""
    node = Node(tmp_path_factory.mktemp("metrics"), listeners=("mqtt", "http", "console", "link", "amqp", "kafka"),
                extra='[[links]]\nto = "ws://127.0.0.1:1"\n').start()
    try:
        with open_mqtt(node.mqtt, "reader", clean=False) as client:
            client.subscribe(("a/#", 1))
            node.publish("a/b", b"x")
            text = node.get("/metrics").text
    finally:
        node.kill9()
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            for series in ([f"{name}_bucket", f"{name}_sum", f"{name}_count"] if kind == "histogram" else [name]):
                found[series] = set()
        elif not line.startswith("#"):
            name, _, rest = line.partition("{")
            if rest:
                found[name] |= set(re.findall(r'(\w+)="', rest))
    return found


def test_every_metric_of_alerts_and_dashboard_is_exported(exported: dict[str, set[str]]) -> None:
    seen = set()
    for where, expression in expressions():
        assert expression.count("(") == expression.count(")"), where
        found = NAME.findall(expression)
        assert found or expression.startswith("up{"), where
        names = {name for name, _ in found}
        assert names <= set(exported), f"{where}: no node exports {names - set(exported)}"
        known = OF_PROMETHEUS.union(*(exported[name] for name in names), {"le"})
        sampled = all(exported[name] or not matchers for name, matchers in found)
        asked = {label for _, matchers in found for label in LABEL.findall(matchers)}
        asked |= {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}
        if sampled and any(exported[name] for name in names):
            assert asked <= known | {"$instance"}, f"{where}: {asked - known}"
        seen |= names
    assert len(seen) > 30


def test_what_is_asked_for_by_value_is_a_value() -> None:
    known = {"reason": {reason.value for reason in Reason}, "le": set(map(str, BUCKETS_S)),
             "state": {state.value for state in LinkState}.union(WEBHOOK_STATES, BRIDGE_STATES)}
    asked: dict[str, set[str]] = {label: set() for label in known}
    for where, expression in expressions():
        for label, values in re.findall(r'(\w+)=~?"([^"$]+)"', expression):
            if label in known:
                asked[label] |= set(values.split("|"))
                assert set(values.split("|")) <= known[label], where
    assert all(asked.values())


def test_alerts_say_what_to_do_and_name_labels_that_there_are(exported: dict[str, set[str]]) -> None:
    groups = yaml.safe_load((EXAMPLES / "monitoring" / "alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["do"], rule["alert"]
        labels = [exported[name] for name, _ in NAME.findall(rule["expr"])]
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))) - OF_PROMETHEUS
        if all(labels):
            assert told <= set().union(*labels), rule["alert"]


def test_prometheus_reads_the_alerts_that_are_there() -> None:
    read = yaml.safe_load((EXAMPLES / "monitoring" / "prometheus.yaml").read_text())
    assert read["scrape_configs"][0]["job_name"] == "meshgate"
    assert all((EXAMPLES / "monitoring" / file).exists() for file in read["rule_files"])
