"""Policy pages: a draft is written, simulated and applied in a browser; who may not administer sees none of it."""
from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.admin import ROOT, ROOT_LOGIN, Admin, basic
from tests.support.chromium import Chromium, Page
from tests.support.node import Answer, Node
from tests.support.wait import wait_until

VIEWER = "viewer's password"
PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    node = Node(tmp_path_factory.mktemp("policies"), extra=ROOT).start()
    found = Admin(node)
    found.must_put("users/eve", password=VIEWER, roles=["viewer"])
    found.must_put("policies/viewers", allow=["view", "publish"], to=["role:viewer"], topics=["plant/#"])
    yield found
    node.kill9()


def page(admin: Admin, path: str, login: dict[str, str] = ROOT_LOGIN) -> Answer:
    return admin.node.get(path, {**login, **PAGE})


def test_a_draft_page_says_what_it_changes_and_what_it_would_have_done(admin: Admin) -> None:
    for _ in range(3):
        assert admin.node.publish("plant/<b>oven</b>".replace("/b>", "%2Fb>"), b"x", basic("eve", VIEWER)).status == 200
        assert admin.node.publish("plant/oven", b"x", basic("eve", VIEWER)).status == 200
    changes = [{"kind": "policy", "name": "no oven", "document": {"deny": ["publish"], "to": ["role:viewer"],
                                                                  "topics": ["plant/oven"]}}]
    assert admin.ask("PUT", "drafts/spring", {"changes": changes, "reason": "too <hot>"}).status == 200
    shown = page(admin, "/drafts/spring").text
    assert "not simulated" in shown and "too &lt;hot&gt;" in shown and "no oven" in shown
    found = page(admin, "/drafts/spring?hours=1").text
    assert "newly deny 1 clients, 3 events" in found and "plant/oven" in found and "<b>" not in found
    assert "expected up to" in page(admin, "/drafts/spring?hours=x").text
    assert "spring" in page(admin, "/drafts").text and "Apply" in page(admin, "/drafts").text
    assert "viewers" in page(admin, "/draft?like=viewers").text
    assert page(admin, "/drafts/none").status == 404 and page(admin, "/draft?like=none").status == 404


@pytest.mark.parametrize("path", ["/drafts", "/drafts/spring", "/drafts/spring?hours=1", "/revisions", "/conflicts",
                                  "/users", "/keys", "/peers", "/masks", "/quotas"])
def test_who_may_not_administer_sees_none_of_it(admin: Admin, path: str) -> None:
    answer = page(admin, path, basic("eve", VIEWER))
    assert answer.status == 403 and "no oven" not in answer.text
    menu = page(admin, "/policies", basic("eve", VIEWER)).text
    assert "viewers" in menu and 'href="/drafts"' not in menu and "data-act" not in menu


def test_the_tables_of_rules_tell_file_and_managed_apart(admin: Admin) -> None:
    rules = page(admin, "/policies").text
    assert "built in" in rules and "managed" in rules and "in force" in rules
    assert "argon2" not in page(admin, "/users").text and "eve" in page(admin, "/users").text
    assert "user/eve" in page(admin, "/revisions").text


def test_a_rule_is_written_looked_at_and_applied_in_a_browser(admin: Admin, tmp_path_factory: pytest.TempPathFactory,
                                                             ) -> None:
    with Chromium(tmp_path_factory.mktemp("browser")) as browser:
        tab = browser.open(admin.node.url("console", "/login"))
        tab.wait("!!document.querySelector('input[name=password]')")
        tab.evaluate("document.querySelector('input[name=user]').value = 'root'; document.querySelector("
                     "'input[name=password]').value = 'the admin password'; document.querySelector('form').submit()")
        tab.wait("location.pathname === '/'")
        tab.evaluate("location.assign('/draft')")
        tab.wait("!!document.getElementById('draft-text') && document.readyState === 'complete'")
        document = {"changes": [{"kind": "policy", "name": "written in a browser", "document": {
            "allow": ["publish"], "to": ["role:viewer"], "topics": ["browser/#"]}}]}
        act(tab, "{ broken", "This is no JSON")
        act(tab, json.dumps(document), "This touches")
        finish(tab)
        tab.wait("location.pathname === '/drafts/in%20a%20browser' "
                 " && !!document.body?.textContent.includes('not simul')")
        assert admin.node.publish("browser/1", b"x", basic("eve", VIEWER)).status == 403
        tab.evaluate("[...document.querySelectorAll('button.act')].find(one => one.textContent === 'Apply').click()")
        tab.wait("document.getElementById('act-preview').textContent.includes('This touches')")
        finish(tab)
        tab.wait("document.getElementById('act')?.open === false")
    assert admin.node.publish("browser/1", b"x", basic("eve", VIEWER)).status == 200
    assert admin.rows("audit")[0]["reason"] == "from the browser"


def act(tab: Page, text: str, says: str) -> None:
    """Keep a draft with this text, and read what the dialog says."""
    tab.evaluate("document.getElementById('act').close(); document.getElementById('draft-name').value = 'in a browser';"
                 f"document.getElementById('draft-text').value = {json.dumps(text)};"
                 "document.querySelector('.editor button.act').click()")
    tab.wait(f"document.getElementById('act').textContent.includes({json.dumps(says)})")


def finish(tab: Page) -> None:
    tab.evaluate("document.getElementById('act-reason').value = 'from the browser';"
                 "document.getElementById('act-do').click()")


def test_a_denial_has_a_draft_for_it_for_who_administers(admin: Admin) -> None:
    assert admin.node.publish("elsewhere/1", b"x", basic("eve", VIEWER)).status == 403
    number = next(row["id"] for row in admin.rows("denials") if row["topic"] == "elsewhere/1")
    wait_until(lambda: f"POST denials/{number}/draft" in page(admin, "/denials").text, "the button is there")
    assert f"POST denials/{number}/draft" not in page(admin, "/denials", basic("eve", VIEWER)).text
