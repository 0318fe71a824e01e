"""Renders the chart by every helm that is there, and hands the objects to the tests."""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
import yaml

CHART = pathlib.Path(__file__).parent.parent / "highwater"
SHAPES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
TOOLS = pathlib.Path(os.environ.get("HIGHWATER_TOOLS", pathlib.Path.home() / ".cache/highwater-tools"))
HELMS = {"helm3": TOOLS / "bin/helm3", "helm4": TOOLS / "bin/helm"}


class Refused(Exception):
    """Helm would not render, and said why."""


@functools.cache
def rendered(helm, *args, release="r", namespace="ns"):
    command = [HELMS[helm], "template", release, CHART, "--namespace", namespace, "--kube-version", "1.33.0", *args]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


def objects(shape, *args, helm="helm4", **release):
    """The objects of a shape; `args` are more of helm's."""
    text = rendered(helm, "-f", str(CHART / f"ci/{shape}-values.yaml"), *args, **release)
    return [o for o in yaml.safe_load_all(text) if o]


def with_values(shape, values, helm="helm4"):
    """The objects of a shape with other values laid over its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        yaml.safe_dump(values, file)
    try:
        return objects(shape, "-f", file.name, helm=helm)
    finally:
        os.unlink(file.name)


def name_of(o):
    return f"{o['kind']}/{o['metadata']['name']}"


def pods(o):
    """The pod specs in an object, with the labels that its pods carry."""
    if o["kind"] == "Pod":
        yield o["metadata"]["labels"], o["spec"]
    elif o["kind"] == "CronJob":
        template = o["spec"]["jobTemplate"]["spec"]["template"]
        yield template["metadata"]["labels"], template["spec"]
    elif o["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        template = o["spec"]["template"]
        yield template["metadata"]["labels"], template["spec"]


def pytest_configure():
    missing = [str(path) for path in HELMS.values() if not shutil.which(path)]
    if missing:
        pytest.exit(f"no {' and no '.join(missing)}: scripts/chart fetches them", returncode=2)
