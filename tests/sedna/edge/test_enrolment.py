"""Certificates: who gets one, for which node, and what happens when they end or their authority does."""

from __future__ import annotations

import base64
import json
import ssl
import time

import pytest

from controller.cluster.edges.authority import NAME, authority_of
from controller.cluster.resources import CONFIG_MAPS, SECRETS
from controller.link.calling import Line
from controller.link.tls import stranger_context
from fedloom.errors import JobError
from fedloom.keys import certificates
from fedloom.keys.certificates import CLOUD, EDGE, Authority, Identity


@pytest.fixture
def enrol(cloud):
    """Ask for a certificate with some token."""
    context = stranger_context(cloud.authority())
    line = Line(("127.0.0.1", cloud.port), lambda: context)

    def ask(token: str, request: str | None = None):
        body = {"request": request or certificates.request_of(certificates.new_key()).decode()}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return line.call("POST", "/edges/enrolment", body, headers)

    yield ask
    line.close()


def test_the_node_is_the_pods_and_nobody_elses(enrol, cloud):
    code, answer = enrol("good.lc-edge-2.uid-edge-2")
    assert (code, answer["node"]) == (200, "edge-2")
    signed = answer["certificate"].encode()
    assert certificates.is_signed_by(signed, cloud.authority())
    assert 0 < certificates.end_of(signed) - time.time() <= 3600
    assert answer["renewSeconds"] == 2400


@pytest.mark.parametrize(
    "token",
    [
        "",
        "none",
        "bad.lc-edge-1.uid-edge-1",
        "good..",
        "good.lc-edge-9.uid",
        "good.lc-edge-1.uid-of-another-pod",
        "good." + "x" * 20_000 + ".u",
    ],
)
def test_tokens_that_prove_nothing_are_401(enrol, token):
    assert enrol(token)[0] == 401


def test_a_token_of_another_account_or_for_somebody_else_is_401(enrol, cloud):
    cloud.cluster.account = "system:serviceaccount:default:somebody"
    assert enrol("good.lc-edge-1.uid-edge-1")[0] == 401
    del cloud.cluster.account
    cloud.cluster.audiences = ["another"]
    assert enrol("good.lc-edge-1.uid-edge-1")[0] == 401
    del cloud.cluster.audiences
    assert enrol("good.lc-edge-1.uid-edge-1")[0] == 200


@pytest.mark.parametrize("request_", ["x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_what_is_no_request_is_400(enrol, request_):
    code, answer = enrol("good.lc-edge-1.uid-edge-1", request_)
    assert code == 400
    assert "request" in answer["Message"]


def test_an_api_server_that_is_away_is_503(enrol, cloud):
    cloud.cluster.is_down = True
    assert enrol("good.lc-edge-1.uid-edge-1")[0] == 503
    cloud.cluster.is_down = False


def test_a_node_keeps_its_key_and_its_certificate_over_a_restart(cloud, edge, wait):
    one = edge()
    one.start()
    path = one.folder / "state/identity.json"
    wait(path.exists)
    first = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    one.running.close()
    reviews = cloud.cluster.calls["create", "tokenreviews"]
    one.start()
    wait(lambda: one.health()["held"] == 2)
    assert path.read_text() == first
    assert cloud.cluster.calls["create", "tokenreviews"] == reviews
    assert "PRIVATE" not in repr(one.running._enrolment.credentials())


def test_a_certificate_is_renewed_before_it_ends(cloud, edge, wait):
    one = edge()
    one.start()
    path = one.folder / "state/identity.json"
    wait(path.exists)
    one.running.close()
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "renewAt": 0}))
    one.start()
    wait(lambda: json.loads(path.read_text())["certificate"] != kept["certificate"])
    wait(lambda: one.health()["held"] == 2)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"node": "edge-1", "certificate": 5}'])
def test_a_damaged_identity_is_made_anew(cloud, edge, wait, content):
    one = edge()
    (one.folder / "state").mkdir()
    (one.folder / "state/identity.json").write_text(content)
    one.start()
    wait(lambda: one.health()["held"] == 2)


def test_a_node_outlives_the_replacement_of_the_authority(cloud, edge, wait, monkeypatch):
    monkeypatch.setattr("controller.edge.main._IDENTITY_SECONDS", 0.1)
    one = edge()
    one.start()
    wait(lambda: one.health()["held"] == 2)
    old = cloud.authority()
    cloud.cluster.delete(SECRETS, "system", NAME)
    cloud.controller.link.look()
    assert cloud.authority() != old
    one.authority.write_bytes(cloud.authority())
    one.running._loops["downstream"]._line.interrupt()
    cloud.job("later", ("a",))
    wait(lambda: one.health()["held"] == 3)


def test_the_authority_is_made_once_and_its_key_is_told_to_nobody(cloud):
    first = authority_of(cloud.cluster, "system")
    assert authority_of(cloud.cluster, "system") == first
    data = cloud.cluster.get(CONFIG_MAPS, "fedloom-edge", NAME)["data"]
    assert data == {"ca.crt": first.certificate.decode()}
    assert "PRIVATE" not in repr(first)


def test_an_authority_near_its_end_is_replaced_and_a_damaged_one_left_alone(cloud):
    short = Authority.generate(time.time(), 3600)
    data = {"ca.crt": short.certificate, "ca.key": short.key}

    def put(values):
        texts = {key: base64.b64encode(value).decode() for key, value in values.items()}
        cloud.cluster.patch(SECRETS, "system", NAME, {"data": texts})

    put(data)
    assert (
        certificates.end_of(authority_of(cloud.cluster, "system").certificate) > time.time() + 1e8
    )
    put({"ca.crt": b"x", "ca.key": b"y"})
    with pytest.raises(JobError, match="authority"):
        authority_of(cloud.cluster, "system")


def test_a_certificate_says_what_it_was_signed_for_and_names_survive_any_node_name():
    authority = Authority.generate(time.time(), 3600)
    key = certificates.new_key()
    for name in ("edge-1", "edge.one.example", "n" * 253, "a/b c"):
        identity = Identity(EDGE, name)
        signed = authority.sign(certificates.request_of(key), identity, time.time(), 60)
        assert certificates.is_signed_by(signed, authority.certificate)
        found = [("DNS", "edge.fedloom.internal"), ("URI", identity.uri)]
        assert certificates.identity_of(found) == identity
    assert certificates.identity_of([("DNS", "fedloom://edge/x"), ("URI", "http://edge/x")]) is None
    assert (
        certificates.identity_of([("URI", "fedloom://other/x"), ("URI", "fedloom://edge/")]) is None
    )
    assert Identity(CLOUD, "controller").host == "cloud.fedloom.internal"


def test_a_request_with_another_keys_signature_or_kind_is_refused():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority = Authority.generate(time.time(), 3600)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    other = builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256())
    pem = other.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(JobError, match="P-256"):
        authority.sign(pem, Identity(EDGE, "x"), time.time(), 60)
    good = certificates.request_of(certificates.new_key())
    der = bytearray(ssl.PEM_cert_to_DER_cert(good.decode().replace(" REQUEST", "")))
    der[-3] ^= 1
    text = base64.encodebytes(bytes(der)).decode()
    broken = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(JobError) as error:
        authority.sign(broken.encode(), Identity(EDGE, "x"), time.time(), 60)
    assert error.value.reason == "InvalidCertificateRequest"
