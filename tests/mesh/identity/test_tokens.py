"""mesh/identity/tokens.py, jwks.py and apikeys.py: whose token it is, and every way in which it is nobody's."""
from __future__ import annotations

import asyncio
import hashlib
import hmac
import threading
import time
from datetime import UTC, datetime

import aiohttp
import jwt
import pytest
from aiohttp import web

from mesh.identity.apikeys import hash_key, make_key, resolve_api_keys
from mesh.identity.auth_settings import ApiKeySettings, JwtSettings, check_api_keys, check_jwt, jwks_problem
from mesh.identity.jwks import COOLDOWN_S, KEYS_MAX, SET_BYTES_MAX, KeySetError, fetch_of, parse_keys
from mesh.identity.tokens import Tokens, TokenUser
from mesh.system.names.names import Names
from routing.errors import ConfigError, Reason, Refusal
from tests.support.wait import DEADLINE_S

from .tokens import AUDIENCE, ISSUER, NOW_S, by_hand, claims, ec_key, ed_key, jwk, jwks, public_pem, rsa_key, token

SETTINGS = JwtSettings(issuer=ISSUER, audience=(AUDIENCE,), jwks="https://login.example/keys")


class Issuer:
    """Gives out its key set when asked, like a server that may be down."""

    def __init__(self, *keys):
        self.keys = keys or (jwk(rsa_key(), "k1"),)
        self.fetches = 0
        self.down = False
        self.gate = None

    def fetch_of(self, settings):
        async def fetch():
            self.fetches += 1
            if self.gate is not None:
                await self.gate.wait()
            if self.down:
                raise KeySetError("HTTP 500")
            return jwks(*self.keys)
        return fetch


class Stand:
    def __init__(self, issuer=None, settings=SETTINGS, keys=None):
        self.now_s = 1_000.0
        self.issuer = issuer or Issuer()
        self.tokens = Tokens(keys or {}, (settings,) if settings else (), clock_ms=lambda: int(self.wall_s * 1000),
                             now_s=lambda: self.now_s, fetch=self.issuer.fetch_of)

    @property
    def wall_s(self):
        return NOW_S + self.now_s - 1_000

    async def ask(self, credential):
        answer = asyncio.get_running_loop().create_future()
        self.tokens.identify(credential, answer.set_result)
        return await asyncio.wait_for(answer, DEADLINE_S)


def busy(answer):
    assert isinstance(answer, Refusal) and answer.reason is Reason.BUSY, answer
    return answer.retry_after_s


def text(answer):
    assert isinstance(answer, Refusal) and answer.reason is Reason.BAD_CREDENTIALS, answer
    return answer.text


async def test_a_good_token_gives_user_roles_and_its_end():
    stand = Stand()
    good = await stand.ask(token())
    assert good == TokenUser("pos-7", ("cashier",), (NOW_S + 630) * 1000, "jwt:https://login.example")
    assert await stand.ask(token()) == await stand.ask(token(aud=["other", AUDIENCE], nbf=NOW_S, iat=NOW_S))
    assert stand.issuer.fetches == 1


@pytest.mark.parametrize(("private", "algorithm"), [
    (rsa_key(), "RS256"), (rsa_key(), "PS256"), (ec_key(), "ES256"), (ed_key(), "EdDSA"),
])
async def test_algorithms(private, algorithm):
    stand = Stand(Issuer(jwk(private, "k1")))
    assert (await stand.ask(token(private, algorithm))).user == "pos-7"


HS_SECRET = public_pem(rsa_key())


def signed_with(secret, header, payload):
    unsigned = by_hand(header, payload).rpartition(b".")[0]
    return by_hand(header, payload, hmac.new(secret, unsigned, hashlib.sha256).digest())


BAD = {
    # hostile.md row 85
    "alg none": by_hand({"alg": "none"}, claims()),
    "alg None, with a kid": by_hand({"alg": "None", "kid": "k1"}, claims()),
    "alg missing": by_hand({"kid": "k1"}, claims()),
    "alg a list": by_hand({"alg": ["RS256"], "kid": "k1"}, claims()),
    "HS256 with the public key as secret": signed_with(HS_SECRET, {"alg": "HS256", "kid": "k1"}, claims()),
    "an algorithm that is not in the list": token(algorithm="RS512"),
    "signed by another key": token(rsa_key(2)),
    "signature cut off": token().rpartition(b".")[0] + b".",
    "signature of another token": token().rpartition(b".")[0] + b"." + token(sub="x").rpartition(b".")[2],
    "exp missing": token(exp=...), "exp null": by_hand({"alg": "RS256"}, {**claims(), "exp": None}),
    "exp a fraction": token(exp=NOW_S + 0.5),
    "exp a text": by_hand({"alg": "RS256"}, claims(exp="9999999999")),
    "exp true": token(exp=True), "exp huge": token(exp=2**63), "exp past": token(exp=NOW_S - 31),
    "nbf future": token(nbf=NOW_S + 31), "iat future": token(iat=NOW_S + 31), "nbf a fraction": token(nbf=1.5),
    "aud of somebody else": token(aud="other"), "aud missing": token(aud=...), "aud a prefix": token(aud="mesh"),
    "aud a list of nothing": token(aud=[]), "aud a list of lists": token(aud=[[AUDIENCE]]),
    "iss of somebody else": token(iss="https://evil.example"), "iss missing": token(iss=...),
    "iss with a slash": token(iss=ISSUER + "/"),
    "kid of nobody": token(kid="k2"), "kid traversal": token(kid="../../../../etc/passwd"),
    "kid SQL": token(kid="k1' OR '1'='1"), "kid /dev/null": token(kid="/dev/null"),
    "kid a number": by_hand({"alg": "RS256", "kid": 1}, claims()), "kid empty": token(kid=""),
    "crit": token(header={"crit": ["exp"]}), "b64 false": token(header={"b64": False}),
    "own key in the header": token(rsa_key(2), header={"jwk": jwk(rsa_key(2), "k1")}),
    "jku": token(rsa_key(2), kid="k9", header={"jku": "http://127.0.0.1/keys", "x5u": "file:///etc/passwd"}),
    "sub missing": token(sub=...), "sub empty": token(sub=""), "sub a number": by_hand({"alg": "RS256"}, claims(sub=7)),
    "sub of the node": token(sub="$node"), "sub anonymous": token(sub="anonymous"), "sub with NUL": token(sub="a\0b"),
    "sub too long": token(sub="x" * 300), "roles an object": token(roles={"a": 1}),
    "roles of numbers": token(roles=[1]),
    "roles too many": token(roles=[f"r{n}" for n in range(200)]),
    "no JSON": by_hand(b"{", b"{"), "a list": by_hand([], []), "claims a list": by_hand({"alg": "RS256"}, []),
    "claims not UTF-8": by_hand({"alg": "RS256"}, b"\xff"), "deep": by_hand({"alg": "RS256"}, b"[" * 3000),
    "deep header": by_hand(b"[" * 3000, claims()), "not base64": b"ey!.ey!.ey!",
    "empty": b"..", "too long": b"ey" * 9000,
    "many dots": b"ey....", "a JWE": b"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d",
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_nobodys(name):
    stand = Stand()
    assert len(text(await stand.ask(BAD[name]))) < 120
    assert (await stand.ask(token())).user == "pos-7", "the next one is served"
    assert stand.issuer.fetches <= 2


async def test_a_header_and_its_claims_are_checked_again_after_the_signature():
    """The unverified look at iss picks the issuer only; a token of one issuer does not pass at another."""
    other = JwtSettings(issuer="https://other.example", audience=(AUDIENCE,), jwks="https://other.example/keys")
    stand = Stand()
    stand.tokens.replace({}, (SETTINGS, other))
    assert (await stand.ask(token())).user == "pos-7"
    assert text(await stand.ask(token(rsa_key(2), iss="https://other.example")))


async def test_clocks_may_differ_by_the_leeway():
    stand = Stand()
    for more in ({"exp": NOW_S - 29}, {"nbf": NOW_S + 29}, {"iat": NOW_S + 29}):
        assert isinstance(await stand.ask(token(**more)), TokenUser)


async def test_a_token_that_was_good_once_ends_with_its_time():
    stand = Stand()
    good = token()
    assert isinstance(await stand.ask(good), TokenUser)
    stand.now_s += 629
    assert isinstance(await stand.ask(good), TokenUser)
    stand.now_s += 2
    assert text(await stand.ask(good)) == "the token has expired"


async def test_a_new_key_is_fetched_when_a_token_has_it():
    stand = Stand()
    assert isinstance(await stand.ask(token()), TokenUser)
    stand.issuer.keys = (jwk(rsa_key(2), "k2"),)
    stand.now_s += COOLDOWN_S
    assert isinstance(await stand.ask(token(rsa_key(2), kid="k2")), TokenUser)
    assert stand.issuer.fetches == 2
    assert text(await stand.ask(token())), "the old key is gone, also for a token that was good before"


async def test_a_flood_of_unknown_key_ids_costs_one_fetch():
    stand = Stand()
    await stand.ask(token())
    stand.now_s += COOLDOWN_S
    stand.issuer.gate = asyncio.Event()
    asked = [asyncio.ensure_future(stand.ask(token(kid=f"x{number}"))) for number in range(200)]
    await asyncio.sleep(0)
    stand.issuer.gate.set()
    assert all(text(answer) for answer in await asyncio.gather(*asked))
    assert stand.issuer.fetches == 2
    assert text(await stand.ask(token(kid="x999"))) and stand.issuer.fetches == 2


async def test_an_issuer_that_is_down_lets_nobody_new_in_and_nobody_out():
    """hostile.md row 85: JWKS 500."""
    stand = Stand()
    stand.issuer.down = True
    assert busy(await stand.ask(token())) == 10, "nobody knows whether it is good"
    assert busy(await stand.ask(token())) == 10
    stand.issuer.down, stand.now_s = False, stand.now_s + COOLDOWN_S
    assert isinstance(await stand.ask(token()), TokenUser)
    stand.issuer.down, stand.now_s = True, stand.now_s + SETTINGS.refresh_s + 1
    for number in range(3):
        answer = await stand.ask(token(jti=str(number), exp=NOW_S + 10**6))
        assert isinstance(answer, TokenUser), "the old keys still count"
        stand.now_s += COOLDOWN_S
    stand.now_s += SETTINGS.stale_s
    assert busy(await stand.ask(token(jti="last", exp=NOW_S + 10**6))) >= 1


async def test_roles_come_from_where_the_setting_says():
    nested = JwtSettings(issuer=ISSUER, audience=(AUDIENCE,), jwks="https://x", roles_claim="realm_access.roles",
                         user_claim="email", role_prefix="idp-")
    stand = Stand(settings=nested)
    answer = await stand.ask(token(email="ana@example", realm_access={"roles": ["admin", "admin", "x"]}))
    assert (answer.user, answer.roles) == ("ana@example", ("idp-admin", "idp-x"))
    assert (await stand.ask(token(email="a", realm_access=[]))).roles == ()
    url = JwtSettings(issuer=ISSUER, audience=(AUDIENCE,), jwks="https://x", roles_claim="https://a.example/roles")
    answer = await Stand(settings=url).ask(token(**{"https://a.example/roles": "read write"}))
    assert answer.roles == ("read", "write")


async def test_hmac_is_for_files_with_a_long_secret_only():
    secret = {"kty": "oct", "kid": "s1", "k": "A" * 43}
    settings = JwtSettings(issuer=ISSUER, audience=(AUDIENCE,), jwks="file:x", algorithms=("HS256", "RS256"))
    stand = Stand(Issuer(secret, jwk(rsa_key(), "k1")), settings)
    good = jwt.encode(claims(), bytes(32), "HS256", headers={"kid": "s1"}).encode()
    assert isinstance(await stand.ask(good), TokenUser)
    confused = signed_with(HS_SECRET, {"alg": "HS256", "kid": "k1"}, claims())
    assert text(await stand.ask(confused))
    assert list(check_jwt((settings,))) == []
    assert "only a file" in next(check_jwt((JwtSettings(ISSUER, ("a",), "https://x.example/k", ("HS256",)),)))
    with pytest.raises(KeySetError):
        parse_keys(jwks({"kty": "oct", "k": "AAAA"}), ("HS256",))


@pytest.mark.parametrize("raw", [
    b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000, jwks(), jwks(*[{}] * (KEYS_MAX + 1)),
    jwks("x", 1, None),
    jwks({"kty": "RSA", "n": "AQ", "e": "AQ"}), jwks({"kty": "RSA"}), jwks({"kty": "EC", "crv": "P-1", "x": 1, "y": 2}),
    jwks({"kty": "OKP", "crv": "Ed25519", "x": "!"}), jwks({"kty": []}), jwks({**jwk(rsa_key(), "k"), "use": "enc"}),
    jwks({**jwk(rsa_key(), "k"), "alg": "RS512"}), jwks({**jwk(rsa_key(), "k"), "key_ops": ["encrypt"]}),
    jwks({**jwk(rsa_key(), "k"), "kid": 1}),
])
def test_a_key_set_that_cannot_be_used(raw):
    with pytest.raises(KeySetError):
        parse_keys(raw, ("RS256", "ES256", "EdDSA"))


def test_short_rsa_keys_do_not_count():
    with pytest.raises(KeySetError):
        parse_keys(jwks(jwk(rsa_key(3, 1024), "k")), ("RS256",))


async def serve(handler):
    app = web.Application()
    app.router.add_get("/keys", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/keys"


@pytest.mark.parametrize(("answer", "expected"), [
    (lambda request: web.Response(status=500), "HTTP 500"),
    (lambda request: web.Response(status=302, headers={"Location": "/elsewhere"}), "HTTP 302"),
    (lambda request: web.Response(body=b"x" * (SET_BYTES_MAX + 1)), "larger"),
    (lambda request: web.Response(body=b"<html>"), "not JSON"),
    (lambda request: asyncio.sleep(2), "TimeoutError"),
    (lambda request: request.transport.abort(), ""),
])
async def test_a_fetch_is_bounded(answer, expected):
    async def handler(request):
        made = answer(request)
        return (await made if asyncio.iscoroutine(made) else made) or web.Response()

    runner, url = await serve(handler)
    settings = JwtSettings(ISSUER, (AUDIENCE,), url, timeout_s=0.3 if expected == "TimeoutError" else DEADLINE_S)
    tokens = Tokens({}, (settings,), clock_ms=lambda: NOW_S * 1000, now_s=lambda: 0.0)
    done = asyncio.get_running_loop().create_future()
    tokens.identify(token(), done.set_result)
    assert busy(await asyncio.wait_for(done, DEADLINE_S))
    assert expected in tokens._issuers[ISSUER].source.failure
    await runner.cleanup()


async def test_keys_come_by_http_and_from_a_file(tmp_path):
    async def keys(request):
        return web.Response(body=jwks(jwk(rsa_key(), "k1")))

    runner, url = await serve(keys)
    fetch = fetch_of(JwtSettings(ISSUER, (AUDIENCE,), url), Names(1, time.monotonic))
    (tmp_path / "keys.json").write_bytes(await fetch())
    await runner.cleanup()
    settings = JwtSettings(ISSUER, (AUDIENCE,), f"file:{tmp_path}/keys.json")
    tokens = Tokens({}, (settings,), clock_ms=lambda: NOW_S * 1000, now_s=lambda: 0.0)
    done = asyncio.get_running_loop().create_future()
    tokens.identify(token(), done.set_result)
    assert (await done).user == "pos-7"


@pytest.mark.parametrize(("jwks_place", "fine"), [
    ("https://login.example/keys", True), ("file:keys.json", True), ("http://127.0.0.1:9/keys", True),
    ("http://login.example/keys", False), ("https://user:pw@login.example/", False), ("keys.json", False), ("", False),
    ("file:", False), ("ftp://x/", False), ("https://", False), ("https://[", False), ("data:,x", False),
])
def test_where_keys_may_be(jwks_place, fine):
    assert (jwks_problem(jwks_place) is None) is fine


# -- API keys ---------------------------------------------------------------------------------------------------------

async def test_an_api_key_gives_its_user_until_it_expires(tmp_path):
    key, short = make_key(), make_key()
    (tmp_path / "hash").write_text(hash_key(short) + "\n")
    keys = resolve_api_keys((
        ApiKeySettings("ci", hash_key(key), roles=("builder",)),
        ApiKeySettings("till", f"file:{tmp_path}/hash", user="pos-7", expires=datetime.fromtimestamp(NOW_S + 5, UTC))))
    stand = Stand(settings=None, keys=keys)
    assert await stand.ask(key.encode()) == TokenUser("ci", ("builder",), None, f"key:{hash_key(key)}")
    assert await stand.ask(short.encode()) == TokenUser("pos-7", (), (NOW_S + 5) * 1000, f"key:{hash_key(short)}")
    stand.now_s += 5
    assert text(await stand.ask(short.encode())) == "the API key has expired"
    for wrong in (make_key().encode(), b"mgk_", key.encode()[:-1], b"mgk_" + key[4:].swapcase().encode(), b"mgk_\xff"):
        assert text(await stand.ask(wrong)) == "the API key is not known"


def test_what_has_the_form_of_a_token():
    both, none = Stand(keys={hash_key("x"): None}).tokens, Stand(settings=None).tokens
    for credential in (make_key().encode(), token()):
        assert both.is_token(credential) and not none.is_token(credential)
    for password in (b"", b"secret", b"a.b.c", b"ey.a"):
        assert not both.is_token(password)


def test_an_api_key_is_not_in_the_configuration_and_its_hash_in_no_log():
    key = make_key()
    settings = ApiKeySettings("ci", hash_key(key))
    assert key not in settings.key_hash and settings.key_hash not in repr(settings)
    assert list(check_api_keys((settings,))) == []


@pytest.mark.parametrize(("settings", "path"), [
    ((ApiKeySettings("", "sha256:" + "0" * 64),), "api_keys[0].name"),
    ((ApiKeySettings("a", "sha256:x"),), "api_keys[0].key_hash"),
    ((ApiKeySettings("a", make_key()),), "api_keys[0].key_hash"),
    ((ApiKeySettings("a", hash_key("x"), user="$node"),), "api_keys[0].user"),
    ((ApiKeySettings("anonymous", hash_key("x")),), "api_keys[0].user"),
    ((ApiKeySettings("a", hash_key("x")), ApiKeySettings("a", hash_key("y"))), "api_keys[1].name"),
    ((ApiKeySettings("a", hash_key("x"), expires=datetime(2030, 1, 1)),), "api_keys[0].expires"),
])
def test_bad_settings_of_keys_name_their_path(settings, path):
    assert next(check_api_keys(settings)).startswith(path + ": ")


def test_two_entries_with_one_key_are_refused():
    with pytest.raises(ConfigError, match=r"api_keys\[1\].key_hash: the same key as a"):
        resolve_api_keys((ApiKeySettings("a", hash_key("x")), ApiKeySettings("b", hash_key("x"))))


@pytest.mark.parametrize(("change", "path"), [
    ({"issuer": ""}, "jwt[0].issuer"), ({"audience": ()}, "jwt[0].audience"), ({"jwks": "http://x/"}, "jwt[0].jwks"),
    ({"algorithms": ("none",)}, "jwt[0].algorithms[0]"), ({"algorithms": ()}, "jwt[0].algorithms"),
    ({"user_claim": ""}, "jwt[0].user_claim"), ({"leeway_s": 1e6}, "jwt[0].leeway_s"),
    ({"refresh_s": 0}, "jwt[0].refresh_s"), ({"stale_s": 10.0}, "jwt[0].stale_s"),
    ({"timeout_s": 0}, "jwt[0].timeout_s"),
])
def test_bad_settings_of_issuers_name_their_path(change, path):
    fields = {"issuer": ISSUER, "audience": (AUDIENCE,), "jwks": "https://x.example/", **change}
    assert next(check_jwt((JwtSettings(**fields),))).startswith(path + ": ")



async def test_hosts_of_issuers_are_looked_up_on_threads_of_their_own():
    """A name server that is silent for webhooks, or for threads of all, delays no key set, and the other way round."""
    asked = []

    def look_up(host, family, flags):
        asked.append((host, threading.current_thread().name))
        raise OSError(f"no such host {host}")

    names = Names(1, time.monotonic, look_up=look_up)
    fetch = fetch_of(JwtSettings(ISSUER, (AUDIENCE,), "https://keys.example/set"), names)
    with pytest.raises(aiohttp.ClientError):
        await fetch()
    assert asked[0][0] == "keys.example" and not asked[0][1].startswith(("asyncio", "MainThread"))
