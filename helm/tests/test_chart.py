"""What the chart promises: by two helms, to five Kubernetes, for each shape."""

import json
import os
import pathlib
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from conftest import CHART, HELMS, SHAPES, TOOLS, Refused, name_of, objects, pods, with_values

KUBERNETES = ["1.29", "1.31", "1.33", "1.35", "1.37"]
CUSTOM = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}
GOLDEN = pathlib.Path(__file__).parent / "golden"
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_helm = pytest.mark.parametrize("helm", HELMS)


def of_kind(kind, found):
    return {o["metadata"]["name"]: o for o in found if o["kind"] == kind}


@every_shape
def test_helm_3_and_4_render_alike(shape):
    by_name = lambda found: {name_of(o): o for o in found}
    assert by_name(objects(shape, helm="helm3")) == by_name(objects(shape, helm="helm4"))


@every_shape
@pytest.mark.parametrize("version", KUBERNETES)
def test_strict_schemas_1_29_to_1_37(shape, version):
    for o in objects(shape):
        if o["apiVersion"] in CUSTOM:
            continue
        kubernetes_validate.validate(o, version, strict=True)


def against_operators(found):
    """Custom resources against the schemas that their operators ship: how many were looked at, or what is wrong."""
    script = (pathlib.Path(__file__).parent / "custom.mjs").read_text()
    custom = json.dumps([o for o in found if o["apiVersion"] in CUSTOM])
    command = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(command, cwd=TOOLS / "node", input=custom, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else done.stderr


@pytest.mark.skipif(not (TOOLS / "node/node_modules").exists(), reason="scripts/chart could not fetch their schemas")
def test_operators_take_their_resources():
    assert against_operators(objects("external")) == 5
    found = objects("bundled")
    assert against_operators(found) == 7
    certificate = next(o for o in found if o["kind"] == "Certificate")
    broken = {**certificate, "spec": {**certificate["spec"], "issuerRef": "r"}}
    assert "issuerRef" in against_operators([broken])


def keys_of(schema, definitions, path=()):
    """Every object of the schema that closes its keys, by path."""
    schema = definitions.get(schema.get("$ref", "").removeprefix("#/definitions/"), schema)
    if schema.get("additionalProperties") is False:
        yield path
    for key, of in schema.get("properties", {}).items():
        yield from keys_of(of, definitions, (*path, key))


def test_every_object_of_the_values_closes_its_keys():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    closed = set(keys_of(schema, schema["definitions"]))
    # what Kubernetes or the user names
    free = {"pools", "nodeSelector", "affinity", "labels", "podAnnotations", "podLabels", "annotations"}
    free |= {"requests", "limits", "groups"}

    def walk(value, path):
        if not isinstance(value, dict) or path and path[-1] in free:
            return
        assert path in closed, f"{path} takes any key"
        for key, of in value.items():
            walk(of, (*path, key))

    walk(values, ())


@every_helm
@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 2},
        {"coordinator": {"replica": 2}},
        {"workers": {"defaults": {"slot": 2}}},
        {"workers": {"groups": {"fast": {"autoscaling": {"mode": "keda"}}}}},
        {"workers": {"groups": {"Fast": {}}}},
        {"image": {"digest": "latest"}},
        {"cluster": {"name": "Prod-1"}},
        {"etcd": {"bundled": {"replicas": 2}}},
        {"etcd": {"endpoints": ["etcd:2379"]}},
    ],
    ids=str,
)
def test_unknown_value_refused(helm, values):
    with pytest.raises(Refused):
        with_values("external", values, helm=helm)


@every_shape
def test_restricted_pods_everywhere(shape):
    seen = 0
    for o in objects(shape):
        for _, pod in pods(o):
            seen += 1
            of_pod = pod["securityContext"]
            assert of_pod["runAsNonRoot"] and of_pod["runAsUser"] >= 65532, name_of(o)
            assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, name_of(o)
            assert pod["automountServiceAccountToken"] is False, name_of(o)
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name_of(o)
            assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name_of(o)
            for container in pod["containers"] + pod.get("initContainers", []):
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, name_of(o)
                assert container["resources"]["limits"]["memory"], name_of(o)
                # the image has no shell
                assert "sh" not in str(container["command"]).split("/"), name_of(o)
        if o["kind"] == "ServiceAccount":
            assert o["automountServiceAccountToken"] is False, name_of(o)
    assert seen >= 3


def test_autoscaled_has_no_replicas():
    found = objects("external")
    deployments, scalers = of_kind("Deployment", found), of_kind("HorizontalPodAutoscaler", found)
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers.values()}
    assert scaled == {"r-highwater-worker-fast"}
    for name, deployment in deployments.items():
        assert ("replicas" in deployment["spec"]) == (name not in scaled), name


@every_helm
def test_grace_exceeds_drain(helm):
    for shape in SHAPES:
        for name, deployment in of_kind("Deployment", objects(shape, helm=helm)).items():
            pod = deployment["spec"]["template"]["spec"]
            drains = [arg for arg in pod["containers"][0]["args"] if arg.startswith("--drain-timeout=")]
            assert len(drains) == ("worker" in name)
            for drain in drains:
                seconds = int(drain.removeprefix("--drain-timeout=").removesuffix("s"))
                assert pod["terminationGracePeriodSeconds"] > seconds, name
    group = {"drainSeconds": 600, "terminationGracePeriodSeconds": 600}
    with pytest.raises(Refused, match="must exceed drainSeconds"):
        with_values("external", {"workers": {"groups": {"fast": group}}}, helm=helm)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"tls": {"mode": "disabled"}}, "tls.allowInsecure"),
        ({"etcd": {"endpoints": []}}, "name the members of etcd"),
        ({"etcd": {"existingSecret": {"tls": ""}}}, "names the secret"),
        ({"etcd": {"endpoints": ["http://etcd:2379"]}}, "is http"),
        (
            {
                "coordinator": {"auth": {"mode": "none", "existingSecret": ""}},
                "tls": {"mode": "existingSecret", "existingSecret": {"worker": "w"}},
            },
            "tls.existingSecret.coordinator",
        ),
        ({"workers": {"groups": {"fast": {"labels": {"group": "x"}}}}}, "the group's name"),
        ({"workers": {"groups": {"fast": {"autoscaling": {"min": 13}}}}}, "min exceeds max"),
        ({"metrics": {"serviceMonitor": {"enabled": False}}}, "metrics.serviceMonitor"),
        ({"tls": {"mode": "disabled", "allowInsecure": True}}, "nobody proves anything"),
        ({"coordinator": {"auth": {"existingSecret": "", "certificates": {"admin": []}}}}, "nobody could begin a run"),
        ({"coordinator": {"auth": {"mode": "none"}}}, "coordinator.auth.mode: token"),
        (
            {"tls": {"mode": "existingSecret", "existingSecret": {"coordinator": "c", "worker": "w"}}},
            "name those of worker and coordinator",
        ),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_the_way_out(values, why):
    with pytest.raises(Refused, match=why):
        with_values("external", values)


def roles_of(found):
    config = of_kind("ConfigMap", found)["r-highwater-coordinator"]["data"]["highwater.config.yaml"]
    return yaml.safe_load(config)["coordinator"].get("roles")


def test_roles_know_the_certificates_of_the_release_and_nobody_else():
    found = objects("external")
    names = {name: o["spec"]["dnsNames"][0] for name, o in of_kind("Certificate", found).items()}
    assert roles_of(found) == {
        "viewer": [names["r-highwater-client"]],
        "operator": [],
        "admin": ["root.example.com"],
        "worker": [names["r-highwater-worker"]],
        "coordinator": [names["r-highwater-coordinator"]],
        "tokens_file": "/etc/highwater/tokens/tokens",
    }
    pod = of_kind("Deployment", found)["r-highwater-coordinator"]["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["tokens"] == "/etc/highwater/tokens"
    secrets = {volume["name"]: volume.get("secret") for volume in pod["volumes"]}
    assert secrets["tokens"]["secretName"] == "tokens"
    # a worker never sees it, and where nobody asks for roles there are none
    assert "tokens" not in str(of_kind("Deployment", found)["r-highwater-worker-default"])
    for shape in SHAPES:
        assert (roles_of(objects(shape)) is None) == (shape != "external")


def immutable(o):
    """What Kubernetes never lets an upgrade change."""
    if o["kind"] == "Deployment":
        return {"selector": o["spec"]["selector"]}
    if o["kind"] == "StatefulSet":
        keys = ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")
        return {key: o["spec"][key] for key in keys}
    return {}


@every_shape
def test_upgrade_golden(shape):
    """Old values make old objects, and what cannot change does not. The golden file is made anew by
    HIGHWATER_UPDATE_GOLDEN=1, which keeps what is immutable."""
    file = GOLDEN / f"{shape}.yaml"
    found = {name_of(o): o for o in objects(shape)}
    before = yaml.safe_load(file.read_text()) if file.exists() else {}
    for name, o in before.items():
        if immutable(o):
            assert name in found, f"{name} would be deleted with all that it runs"
            assert immutable(found[name]) == immutable(o), f"{name} could not be upgraded"
    if os.environ.get("HIGHWATER_UPDATE_GOLDEN"):
        file.write_text(yaml.safe_dump(found, width=120))
    assert found == before or os.environ.get("HIGHWATER_UPDATE_GOLDEN")


def test_the_clusters_name_is_of_namespace_and_release_and_never_of_two():
    def name(release, namespace):
        found = objects("insecure", release=release, namespace=namespace)
        args = of_kind("Deployment", found)
        args = next(o for n, o in args.items() if n.endswith("coordinator"))
        args = args["spec"]["template"]["spec"]["containers"][0]["args"]
        return next(arg.removeprefix("--cluster=") for arg in args if arg.startswith("--cluster="))

    assert name("b-c", "a") != name("c", "a-b")
    long = name("r" * 53, "n" * 63)
    assert len(long) <= 63 and long.replace("_", "").isalnum() and long.islower(), long


def matches(selector, labels):
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))


def flows(found):
    """(from, to, port) that policies at both ends let through; `*` stands for anybody outside."""
    parts = {}
    for o in found:
        for labels, _ in pods(o):
            parts[labels["app.kubernetes.io/component"]] = labels
    policies = [o["spec"] for o in found if o["kind"] == "NetworkPolicy"]

    def peers(rule, side):
        if not rule.get(side):
            return {*parts, "*"}
        inside = [peer["podSelector"] for peer in rule[side] if set(peer) == {"podSelector"}]
        named = {part for part, labels in parts.items() if any(matches(s, labels) for s in inside)}
        return named | ({"*"} if len(inside) < len(rule[side]) else set())

    def allowed(direction, side):
        for part, labels in parts.items():
            for policy in policies:
                if direction.capitalize() in policy["policyTypes"] and matches(policy["podSelector"], labels):
                    for rule in policy.get(direction, []):
                        for peer in peers(rule, side):
                            for port in rule["ports"]:
                                yield part, peer, port["port"]

    out = set(allowed("egress", "to"))
    into = {(peer, part, port) for part, peer, port in allowed("ingress", "from")}
    outside = {(a, b, port) for a, b, port in out if b == "*"} | {(a, b, port) for a, b, port in into if a == "*"}
    return (out & into) | outside


def test_policies_allow_only_listed_flows():
    named = {(part, "*", 53) for part in ("coordinator", "worker", "test", "store-check")}
    to_coordinators = {(part, "coordinator", 7070) for part in ("coordinator", "worker", "test")}
    assert flows(objects("external")) == named | to_coordinators | {
        ("coordinator", "*", 2379),
        ("store-check", "*", 2379),
        ("worker", "*", 5432),
        ("coordinator", "*", 4317),
        ("worker", "*", 4317),
        ("*", "coordinator", 7070),
        ("*", "coordinator", 7072),
        ("*", "worker", 7072),
    }
    assert flows(objects("bundled")) == named | to_coordinators | {
        ("etcd", "*", 53),
        ("etcd-defrag", "*", 53),
        ("coordinator", "etcd", 2379),
        ("store-check", "etcd", 2379),
        ("etcd-defrag", "etcd", 2379),
        ("etcd", "etcd", 2380),
    }
    # without a policy at all everything would be allowed: every pod is denied first
    for shape in ("external", "bundled", "secrets"):
        found = objects(shape)
        denied = [o["spec"] for o in found if name_of(o) == "NetworkPolicy/r-highwater-deny"]
        assert denied[0]["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in denied[0]
        for o in found:
            assert all(matches(denied[0]["podSelector"], labels) for labels, _ in pods(o)), name_of(o)


def test_telemetry_is_sent_by_every_daemon_or_by_none():
    for shape, endpoint in (("external", "http://collector.monitoring:4317"), ("bundled", None)):
        for name, deployment in of_kind("Deployment", objects(shape)).items():
            container = deployment["spec"]["template"]["spec"]["containers"][0]
            names = [variable["name"] for variable in container["env"]]
            env = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert env.get("OTEL_EXPORTER_OTLP_ENDPOINT") == endpoint, name
            assert ("--log-format=json" in container["args"]) == bool(endpoint), name
            assert len(names) == len(set(names)), name
            if endpoint:
                # Kubernetes puts in what stands before
                assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES"), name
                assert env["OTEL_TRACES_SAMPLER_ARG"] == "0.1", name
    with pytest.raises(Refused):
        with_values("external", {"telemetry": {"endpoint": "collector:4317"}})


@every_shape
def test_every_secret_and_volume_that_a_pod_names_is_there_or_the_users(shape):
    found = objects(shape)
    made = {o["spec"]["secretName"] for o in found if o["kind"] == "Certificate"}
    values = (CHART / f"ci/{shape}-values.yaml").read_text()
    for o in found:
        for _, pod in pods(o):
            volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
            claims = {c["metadata"]["name"] for c in o["spec"].get("volumeClaimTemplates", [])}
            for container in pod["containers"]:
                for mount in container.get("volumeMounts", []):
                    assert mount["name"] in volumes.keys() | claims, f"{name_of(o)}: {mount}"
                ports = {port["name"] for port in container.get("ports", [])}
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    if probe in container:
                        assert container[probe]["httpGet"]["port"] in ports, name_of(o)
            for volume in volumes.values():
                secret = volume.get("secret", {}).get("secretName")
                assert not secret or secret in made or secret in values, f"{name_of(o)}: {secret}"


def test_the_charts_page_is_made_of_its_values():
    made = subprocess.run([sys.executable, CHART.parent.parent / "scripts/chart-readme", "--check"], check=False)
    assert made.returncode == 0, "make chart-readme"


@every_shape
def test_notes_say_what_is_to_be_done_next(shape):
    command = [HELMS["helm4"], "install", "r", CHART, "-n", "ns", "--dry-run=client", "-f", CHART / f"ci/{shape}-values.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("\nNOTES:\n")[1]
    assert "cluster status --coordinator http" in notes and "\n\n\n" not in notes, notes
    assert ("reach no database yet" in notes) == (shape in ("bundled", "secrets")), notes
    assert ("for trials" in notes) == (shape == "bundled"), notes
    assert ("Nothing is encrypted" in notes) == (shape == "insecure"), notes
    assert ("--tls-server-name" in notes) == (shape != "insecure"), notes
