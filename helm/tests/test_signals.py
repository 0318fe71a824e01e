"""Rules and dashboards: they name what there is, and say what they should when it is so."""

import json
import pathlib
import re
import subprocess

import pytest
import yaml
from conftest import CHART, objects

ROOT = CHART.parent.parent
# what Prometheus adds where it scrapes
SCRAPED = {"namespace", "service", "pod", "instance", "job", "le"}
RULE = next(o for o in objects("external") if o["kind"] == "PrometheusRule")


def families():
    """The metrics that a running cluster was found to tell, with their labels."""
    known = {}
    for line in (ROOT / "integration-tests/metrics.golden").read_text().splitlines():
        _, kind, name, labels = re.fullmatch(r"(\w+) (\w+) (\w+)\{(.*)\}", line).groups()
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            known[name + suffix] = {*labels.split(",")} - {""}
    return known


def expressions():
    for group in RULE["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for file in sorted((CHART / "dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{board['title']}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{board['title']}: ${variable['name']}", variable["query"]


@pytest.mark.parametrize(("where", "expr"), list(expressions()), ids=lambda value: value[:40])
def test_rules_and_dashboards_name_real_metrics(where, expr):
    known = families()
    of_all = set().union(*known.values()) | SCRAPED
    found = re.findall(r"(highwater_\w+)(?:\{([^}]*)\})?", expr)
    assert found, where
    for name, selector in found:
        assert name in known, f"{where}: there is no {name}"
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selector)):
            assert label in known[name] | SCRAPED, f"{where}: {name} has no label {label}"
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
        assert {label.strip() for label in labels.split(",")} <= of_all, f"{where}: {labels}"


def test_dashboards_are_what_grafana_is_given():
    found = {o["metadata"]["name"]: o for o in objects("external") if "dashboard" in o["metadata"]["name"]}
    files = {file.name: json.loads(file.read_text()) for file in (CHART / "dashboards").glob("*.json")}
    given = {}
    for o in found.values():
        assert o["metadata"]["labels"]["grafana_dashboard"] == "1"
        given |= {name.removeprefix("highwater-"): json.loads(text) for name, text in o["data"].items()}
    assert given == files
    assert len({board["uid"] for board in files.values()}) == len(files)


def test_each_rule_has_a_runbook_and_a_case():
    page = (ROOT / "docs/runbooks.md").read_text()
    headings = {line.removeprefix("## ").strip() for line in page.splitlines() if line.startswith("## ")}
    cases = yaml.safe_load((pathlib.Path(__file__).parent / "rules.test.yaml").read_text())
    tested = {}
    for case in cases["tests"]:
        for told in case["alert_rule_test"]:
            tested.setdefault(told["alertname"], set()).add(bool(told.get("exp_alerts")))
    for group in RULE["spec"]["groups"]:
        for rule in group["rules"]:
            name = rule["alert"]
            assert name in headings, f"docs/runbooks.md has no {name}"
            assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks.md#{name.lower()}")
            assert tested.get(name) == {True, False}, f"{name} is to be seen firing and silent"


def test_rules_say_what_they_should(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULE["spec"]))
    (tmp_path / "rules.test.yaml").write_text((pathlib.Path(__file__).parent / "rules.test.yaml").read_text())
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
