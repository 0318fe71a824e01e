"""The bundled etcd: three members by the arguments that are rendered, with this machine's etcd and addresses for names."""

import os
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import name_of, objects

MEMBERS = 3


def address(member):
    # a network of its own: others may run this, too
    return f"127.{os.getpid() % 120 + 100}.{os.getpid() // 120 % 250}.{member + 1}"


@pytest.fixture
def certificates(tmp_path):
    """A secret a member, and their authority. A connection within a machine comes from 127.0.0.1."""

    def run(*command):
        subprocess.run(["openssl", *command], cwd=tmp_path, check=True, capture_output=True)

    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("req", "-x509", *ec, "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    names = ",".join(f"IP:{at}" for at in [*map(address, range(MEMBERS)), "127.0.0.1"])
    (tmp_path / "names").write_text(f"subjectAltName={names}\n")
    for member in range(MEMBERS):
        folder = tmp_path / f"tls-{member}"
        folder.mkdir()
        run("req", *ec, "-subj", f"/CN={member}", "-keyout", folder / "tls.key", "-out", folder / "csr")
        sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        run("x509", "-req", "-in", folder / "csr", *sign, "-out", folder / "tls.crt")
        (folder / "ca.crt").write_text((tmp_path / "ca.crt").read_text())
    return tmp_path


def healthy(member):
    try:
        return urllib.request.urlopen(f"http://{address(member)}:2381/health", timeout=2).status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_bundled_members_join_over_tls_and_are_defragmented(certificates):
    found = {name_of(o): o for o in objects("bundled")}

    def args(spec, member):
        for arg in spec["template"]["spec"]["containers"][0]["args"]:
            arg = arg.replace("$(POD_NAME)", f"r-highwater-etcd-{member}")
            for other in range(MEMBERS):
                name = f"r-highwater-etcd-{other}.r-highwater-etcd.ns.svc"
                arg = arg.replace(name, address(other))
            arg = arg.replace("0.0.0.0", address(member)).replace("/var/lib/etcd", f"{certificates}/data-{member}")
            yield arg.replace("/etc/etcd/tls", f"{certificates}/tls-{member}")

    spec = found["StatefulSet/r-highwater-etcd"]["spec"]
    assert spec["replicas"] == MEMBERS
    logs = [(certificates / f"log-{member}").open("w+") for member in range(MEMBERS)]
    members = [
        subprocess.Popen(["etcd", *args(spec, member)], stdout=log, stderr=log) for member, log in enumerate(logs)
    ]
    try:
        until = time.monotonic() + 60
        while not all(map(healthy, range(MEMBERS))):
            told = [(certificates / f"log-{member}").read_text()[-2000:] for member in range(MEMBERS)]
            assert time.monotonic() < until and all(member.poll() is None for member in members), told
            time.sleep(0.2)
        job = found["CronJob/r-highwater-etcd-defrag"]["spec"]["jobTemplate"]["spec"]
        ctl = ["etcdctl", *args(job, 0)]
        done = subprocess.run(ctl, env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Finished defragmenting") == MEMBERS, done.stdout
    finally:
        for member in members:
            member.kill()
        for member, log in zip(members, logs, strict=True):
            member.wait()
            log.close()
