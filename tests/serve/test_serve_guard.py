"""`mmid.serve.guard`: who may ask, and what browsers may do with answers."""

from __future__ import annotations

import pytest
from servers import HERE
from starlette.testclient import TestClient

from mmid.serve.app import make_app
from mmid.serve.guard import is_loopback

TOKEN = "a secret"


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]:8765"])
def test_this_machine_is_known_by_its_names(client, host):
    assert client.get("/library", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8765", "192.168.1.7", "", "[", "a@127.0.0.1"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(client, host):
    answer = client.get("/library", headers={"Host": host})
    assert answer.status_code == 421 and list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/identify"), ("POST", "/build"), ("DELETE", "/build"), ("GET", "/library")],
)
def test_a_page_of_another_site_gets_nothing(client, headers, method, path):
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == 403 and "another site" in answer.json()["error"]


def test_its_own_page_may_ask(client):
    headers = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    assert client.get("/library", headers=headers).status_code == 200


def test_every_answer_says_what_browsers_may_do(client):
    for path in ("/", "/assets/serve.js", "/library", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.fixture
def guarded(library) -> TestClient:
    """Return a client of a server that other machines reach."""
    return TestClient(make_app(library, names=["my-machine"], token=TOKEN), base_url=HERE)


@pytest.mark.parametrize("given", [None, "", "Bearer ", "Bearer wrong", "Bearer a secret "])
def test_without_the_token_nothing_of_the_library_is_given(guarded, given):
    headers = {} if given is None else {"Authorization": given}
    for method, path in (("GET", "/library"), ("POST", "/identify"), ("GET", "/events")):
        answer = guarded.request(method, path, headers=headers)
        assert answer.status_code == 401 and "token" in answer.json()["error"]


@pytest.mark.parametrize("host", ["192.168.1.7:8765", "my-machine:8765", "[fe80::1]:8765"])
def test_with_the_token_other_machines_are_served(guarded, host):
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": host}
    assert guarded.get("/library", headers=headers).status_code == 200
    assert guarded.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        *(("127.0.0.1", True), ("127.0.0.9", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.7", False), ("my-machine", False)),
    ],
)
def test_addresses_of_this_machine_alone_are_known(host, only_here):
    assert is_loopback(host) == only_here
