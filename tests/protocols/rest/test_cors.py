"""CORS: what pages of other origins get. hostile.md row 83 among it."""
from __future__ import annotations

import pytest

from protocols.rest.cors_settings import CorsSettings, check_cors
from protocols.rest.settings import RestSettings

from .sse_client import Sse
from .stand import basic, stand

APP = "https://app.example"
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "content-type, Meshgate-Key, ce-id,x-evil, authorization, (x)"}
USERS = [("ana", "correct horse", ())]


def open_to(*origins, **more):
    return RestSettings(cors=CorsSettings(origins, **more))


def allowed(response):
    found = {name.lower(): value for name, value in response.headers.items()}
    return {name: value for name, value in found.items() if name.startswith("access-control")}


async def test_without_configuration_no_page_gets_anything(tmp_path):
    async with stand(tmp_path) as it:
        for method, headers in (("POST", {"Origin": APP}), ("OPTIONS", PREFLIGHT), ("POST", {"Origin": "null"})):
            async with it.http.request(method, "/v1/events/a", headers=headers) as response:
                assert response.status == 403 and not allowed(response)
                assert (await response.json())["type"] == "/problems/foreign-origin"


async def test_a_page_of_the_list_is_served_and_may_read_problems_too(tmp_path):
    async with stand(tmp_path, settings=open_to(APP)) as it:
        for path, status in (("/v1/events/a", 200), ("/v1/events/a/%23", 400), ("/nothing", 404)):
            async with it.http.post(path, headers={"Origin": APP}) as response:
                assert response.status == status
                found = allowed(response)
                assert found["access-control-allow-origin"] == APP and "Retry-After" in found[
                    "access-control-expose-headers"]
                assert "access-control-allow-credentials" not in found and response.headers["Vary"] == "Origin"
        async with it.http.post("/v1/events/a") as response:
            assert not allowed(response) and response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [
    "https://evil.example", "null", "http://app.example", "https://app.example:444", "https://app.example.evil.example",
    "https://app.example/", "https://APP.example", "", "https://evil.example, https://app.example", "file://", "*",
])
async def test_nothing_else_is_reflected(tmp_path, origin):
    async with stand(tmp_path, settings=open_to(APP, credentials=True)) as it:
        for method, headers in (("POST", {}), ("OPTIONS", PREFLIGHT)):
            async with it.http.request(method, "/v1/events/a", headers={**headers, "Origin": origin}) as response:
                assert response.status == 403 and not allowed(response)


@pytest.mark.parametrize("target", ["/v1/events/a", "/v1/events?filter=a", "/v1/ws/example", "/v1/consumers"])
async def test_an_upgrade_field_does_not_let_a_foreign_page_in(tmp_path, target):
    """Only what goes to a WebSocket endpoint has its Origin checked there, by a list of its own."""
    async with stand(tmp_path, settings=open_to(APP)) as it:
        for method in ("POST", "GET"):
            headers = {"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"}
            async with it.http.request(method, target, headers=headers) as response:
                assert response.status == 403 and not allowed(response)
        assert not it.router.published


async def test_a_preflight_names_methods_and_the_fields_that_are_known(tmp_path):
    async with stand(tmp_path, settings=open_to(APP, credentials=True), users=USERS, rules=()) as it:
        async with it.http.options("/v1/events/a", headers=PREFLIGHT) as response:
            assert response.status == 204 and not await response.read()
            assert allowed(response) == {
                "access-control-allow-origin": APP, "access-control-allow-methods": "POST",
                "access-control-allow-headers": "authorization, ce-id, content-type, meshgate-key",
                "access-control-allow-credentials": "true", "access-control-max-age": "600",
                "access-control-expose-headers": response.headers["Access-Control-Expose-Headers"]}
        async with it.http.options("/v1/events", headers=PREFLIGHT) as response:
            assert response.headers["Access-Control-Allow-Methods"] == "GET, POST"
        async with it.http.options("/nothing", headers=PREFLIGHT) as response:
            assert response.status == 404
        async with it.http.post("/v1/events/a", headers={"Origin": APP}) as response:
            assert response.status == 401, "a preflight needs no login, a request does"


async def test_a_stream_has_the_fields_in_its_head(tmp_path):
    async with stand(tmp_path, settings=open_to(APP)) as it:
        reader = await Sse.open(it, "a", headers=f"Origin: {APP}\r\n")
        assert f"Access-Control-Allow-Origin: {APP}\r\n".encode() in reader.headers
        reader.close()


async def test_every_page_means_without_credentials_and_not_null(tmp_path):
    async with stand(tmp_path, settings=open_to("*")) as it:
        async with it.http.post("/v1/events/a", headers={"Origin": "https://any.example"}) as response:
            assert response.status == 200 and response.headers["Access-Control-Allow-Origin"] == "*"
        async with it.http.post("/v1/events/a", headers={"Origin": "null"}) as response:
            assert response.status == 403


async def test_a_page_that_had_its_name_resolve_to_us_is_still_refused(tmp_path):
    """DNS rebinding: the origin is in no list, and without users only localhost is served."""
    headers = {"Origin": APP, "Host": "app.example"}
    async with stand(tmp_path, settings=open_to("*")) as it, it.http.post("/v1/events/a", headers=headers) as response:
        assert (await response.json())["type"] == "/problems/foreign-host"


async def test_credentials_that_a_page_sends_itself_work(tmp_path):
    async with stand(tmp_path, settings=open_to(APP), users=USERS) as it:
        headers = {"Origin": APP, "Authorization": basic("ana", "correct horse")}
        async with it.http.get("/v1/events?filter=a", headers=headers) as response:
            assert response.status == 403 or response.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize(("settings", "path"), [
    (CorsSettings(("*",), credentials=True), "http.cors.credentials"),
    (CorsSettings(("null",)), "http.cors.origins[0]"), (CorsSettings(("https://a/",)), "http.cors.origins[0]"),
    (CorsSettings(("https://a", "a.example")), "http.cors.origins[1]"),
    (CorsSettings(("https://*.a",)), "http.cors.origins[0]"),
    (CorsSettings(("https://[",)), "http.cors.origins[0]"), (CorsSettings(("https://u@a",)), "http.cors.origins[0]"),
    (CorsSettings(expose=("a b",)), "http.cors.expose[0]"), (CorsSettings(max_age_s=-1), "http.cors.max_age_s"),
    (CorsSettings((APP, "http://localhost:5173"), credentials=True, expose=("X-A",)), ""),
])
def test_bad_settings_name_their_path(settings, path):
    problems = list(check_cors(settings))
    assert (problems[0].startswith(path + ": ") if path else not problems)
