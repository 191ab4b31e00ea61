"""Keys at the door, headers on every answer, and bodies that unpack to more than they seem."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from typer.testing import CliRunner

from forecast.errors import NotFoundError, SpecError
from service.body import unpack
from service.errors import Problem
from service.keys import create_key, digest, find_key, keys_file, read_keys, revoke_key
from service.keys_commands import keys as keys_command
from service.security import Keyring, check_listening, is_loopback
from service.settings import Settings
from tests.service.builders import Client, Registry, baseline, request_body, serving


def bearer(secret: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {secret}"}


def test_without_keys_everybody_is_served_and_with_one_only_who_has_it(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with serving() as client:
        assert client.post(request_body()).status_code == 200
    secret, _ = create_key("a client")
    with serving() as client:
        refused = client.post(request_body())
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.post(request_body(), headers=bearer(secret)).status_code == 200
        assert client.post(request_body(), headers={"X-API-Key": secret}).status_code == 200
        for wrong in (secret[:-1], secret + "x", "", "ä"):
            headers = {"Authorization": b"Bearer " + wrong.encode("latin-1")}
            assert client.request("POST", "/v1/forecasts", headers=headers).status_code == 401
        assert client.post(request_body(), headers={"Authorization": f"Basic {secret}"}).status_code == 401
        for path in ("/livez", "/readyz"):
            assert client.get(path).status_code == 200


def test_a_key_opens_what_its_scopes_say(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    reader, _ = create_key("reader", scopes=["read"])
    writer, _ = create_key("writer", scopes=["forecast"])
    with serving() as client:
        assert client.get("/v1/models", headers=bearer(reader)).status_code == 200
        forbidden = client.post(request_body(), headers=bearer(reader))
        assert forbidden.status_code == 403
        assert "'forecast'" in forbidden.json()["detail"]
        assert client.post(request_body(), headers=bearer(writer)).status_code == 200
        assert client.get("/v1/models", headers=bearer(writer)).status_code == 403


def test_a_running_service_sees_a_rotation(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.security.LOOK_SECONDS", 0.0)
    registry.add("air", "1", baseline(), "champion")
    old, key = create_key("before")
    with serving() as client:
        new, _ = create_key("after")
        assert client.post(request_body(), headers=bearer(old)).status_code == 200
        assert client.post(request_body(), headers=bearer(new)).status_code == 200
        revoke_key(key.id)
        assert client.post(request_body(), headers=bearer(old)).status_code == 401
        assert client.post(request_body(), headers=bearer(new)).status_code == 200
        keys_file().unlink()
        assert client.post(request_body()).status_code == 401, "a lost file opens nothing"


def test_a_key_expires() -> None:
    secret, key = create_key("for a day", days=1)
    now = datetime.now(UTC)
    assert find_key([key], secret, now) == key
    assert find_key([key], secret, now + timedelta(days=1, seconds=1)) is None


def test_only_the_hash_of_a_key_is_kept_and_nobody_else_may_read_it() -> None:
    secret, key = create_key("a")
    text = keys_file().read_text()
    assert secret not in text
    assert secret.removeprefix("fk_") not in text
    assert key.sha256 == digest(secret)
    assert keys_file().stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "a", "scopes": ["everything"]}, "no scope 'everything'"),
        ({"name": ""}, "needs a name"),
        ({"name": "a", "days": 0}, "expires after"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        create_key(**asked)
    with pytest.raises(NotFoundError, match="keys list"):
        revoke_key("nothing")


def test_the_commands_make_list_and_revoke() -> None:
    run = CliRunner().invoke
    made = json.loads(run(keys_command, ["create", "shop", "--scope", "read", "--json"]).stdout)
    assert made["scopes"] == ["read"]
    listed = run(keys_command, ["list"]).stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    assert run(keys_command, ["revoke", made["id"]]).exit_code == 0
    assert json.loads(run(keys_command, ["list", "--json"]).stdout)["keys"][0]["state"] == "revoked"
    assert [key.name for key in read_keys(keys_file())] == ["shop"]


def test_a_key_is_revoked_by_its_name_where_only_one_has_it() -> None:
    _, first = create_key("shop")
    assert revoke_key("shop").id == first.id
    with pytest.raises(NotFoundError, match="'shop'"):
        revoke_key("shop")
    _, second = create_key("shop")
    _, third = create_key("shop")
    with pytest.raises(SpecError, match=f"{second.id}, {third.id}"):
        revoke_key("shop")
    assert revoke_key(third.id).revoked
    assert revoke_key("shop").id == second.id


def test_a_file_of_keys_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "keys.json"
    broken.write_text('{"keys": [{"id": 1}]}')
    with pytest.raises(SpecError, match="cannot be read"):
        Keyring(broken).keys()


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.7", True),
        ("example.org", True),
    ],
)
def test_no_door_is_open_beyond_this_machine_without_keys(host: str, is_open: bool) -> None:
    assert is_loopback(host) is not is_open
    if is_open:
        with pytest.raises(SpecError, match="--insecure"):
            check_listening(host, insecure=False, keyring=Keyring())
    check_listening(host, insecure=True, keyring=Keyring())
    create_key("a")
    check_listening(host, insecure=False, keyring=Keyring())


@pytest.mark.parametrize("path", ["/livez", "/v1/models", "/docs", "/nothing"])
def test_every_answer_has_security_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_encoded_bodies_are_unpacked(client: Client, encoding: str) -> None:
    body = json.dumps(request_body()).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
    answer = client.post(packed, headers={"Content-Encoding": encoding})
    assert answer.json() == client.post(body).json()


@pytest.mark.parametrize("encoding", ["gzip, gzip", "zstd, gzip", "br", "deflate", "gzip,identity"])
def test_stacked_and_unknown_encodings_are_refused(client: Client, encoding: str) -> None:
    assert client.post(b"{}", headers={"Content-Encoding": encoding}).status_code == 415


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_is_unpacked(registry: Registry, encoding: str) -> None:
    registry.add("air", "1", baseline(), "champion")
    bomb = gzip.compress(bytes(2**28)) if encoding == "gzip" else zstandard.compress(bytes(2**28))
    assert len(bomb) < 2**19
    with serving(Settings(max_body=2**20)) as client:
        assert client.post(bomb, headers={"Content-Encoding": encoding}).status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_damaged_stream_is_refused(encoding: str) -> None:
    body = b"some words, more than once; some words" * 50
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
    assert unpack(packed, encoding, max_bytes=10_000) == body
    for damaged in (b"", packed[:-3], b"x" + packed, packed + b"x", packed + packed):
        with pytest.raises(Problem) as refused:
            unpack(damaged, encoding, max_bytes=10_000)
        assert refused.value.status == 400
