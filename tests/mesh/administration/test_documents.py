"""What may stand in a managed document, and what of it is in force."""
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesh.administration.check import circle_of_roles, name_problem, problems_of
from mesh.administration.documents import HIDDEN, body_of, differences, document_of, without_secrets
from mesh.administration.effective import holders_of
from mesh.identity.apikeys import hash_key


@pytest.mark.parametrize("name", ["a*", "*", "a+", "#", "a?", "^ana$", "ana|bob", "[ab]", "a/b", "%u", "$node",
                                  "anonymous", "", " ana", "a\nb", "a" * 256, "a\\d"])
def test_a_name_is_no_pattern(name: str) -> None:
    assert name_problem("user", name) is not None


@pytest.mark.parametrize("name", ["ana", "ana.b-c_d@plant.example", "cashiers have their own topics", "Zoë"])
def test_names_of_people_are_taken(name: str) -> None:
    assert name_problem("user", name) is None


def test_names_that_the_node_gives_itself_are_refused() -> None:
    assert name_problem("policy", "policy 1") and name_problem("policy", "built in: x")
    assert name_problem("role", "authenticated") and name_problem("peer", "graz 1")


@pytest.mark.parametrize(("kind", "body", "says"), [
    ("policy", {"allow": ["publish"], "to": ["user:a*"]}, "no pattern"),
    ("policy", {"allow": ["publish"], "to": ["role:.*"]}, "no pattern"),
    ("policy", {"allow": ["publish"], "to": ["user:%u"]}, "no pattern"),
    ("policy", {"allow": ["publish"], "to": ["*"], "topics": ["a/*"]}, "no other patterns"),
    ("policy", {"allow": ["publish"], "to": ["*"], "topics": ["a/#/b"]}, "topics"),
    ("policy", {"allow": ["publish"], "to": []}, "at least one"),
    ("policy", {"to": ["*"]}, "either allow or deny"),
    ("policy", {"allow": ["publish"], "deny": ["publish"], "to": ["*"]}, "either allow or deny"),
    ("policy", {"allow": ["publish"], "to": ["group:x"]}, "expected"),
    ("user", {"roles": ["a*"]}, "no pattern"),
    ("user", {"password_hash": "secret"}, "argon2id"),
    ("user", {"nodes": ["graz*"]}, "no pattern"),
    ("user", {"from": "2027-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "ends before"),
    ("key", {"key_hash": "sha256:00"}, "key_hash"),
    ("role", {"held_by": ["(a|b)"]}, "no pattern"),
    ("peer", {"export": ["a/#/b"]}, "export"),
    ("peer", {"prefix": "a/+"}, "prefix"),
])
def test_what_is_wrong_in_a_document_is_named(kind: str, body: dict[str, Any], says: str) -> None:
    problems = problems_of(kind, "name", document_of(kind, body))
    assert problems and says in problems[0]


@pytest.mark.parametrize(("kind", "body"), [
    ("user", {"unknown": 1}), ("user", {"until": "2026-01-01T00:00:00"}), ("policy", {"allow": ["fly"]}),
    ("policy", {"to": "user:ana"}), ("key", {}), ("nothing", {}), ("peer", {"console": ["everything"]}),
    ("policy", {"to": ["x" * 2_000]}),
])
def test_a_document_of_another_form_is_refused(kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        document_of(kind, body)


@pytest.mark.parametrize(("body", "says"), [
    ({"alow": ["publish"]}, "alow: there is no such field; known are description, nodes, sites, from, until, "),
    ({"allow": ["read"]},
     "allow[0]: expected one of connect, publish, subscribe, browse, manage, view, operate, audit, administer, got 'r"),
    ({"allow": "publish"}, "allow: expected array, got str"),
])
def test_the_place_and_what_may_stand_there_are_named(body: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        document_of("policy", body)
    assert str(caught.value).startswith(says)


def test_a_document_is_stored_as_it_was_written_without_defaults() -> None:
    body = {"description": "x", "from": "2026-01-01T00:00:00Z", "allow": ["publish"], "to": ["*"], "enabled": True}
    assert body_of(document_of("policy", body)) == {name: body[name] for name in body if name != "enabled"}


def test_people_see_no_hash_and_yet_that_it_changed() -> None:
    old, new = {"key_hash": hash_key("a")}, {"key_hash": hash_key("b")}
    assert without_secrets(old) == {"key_hash": HIDDEN}
    assert differences(old, new) == {"key_hash": [HIDDEN, "(another one)"]}
    assert differences(old, old) == {}


def test_roles_that_hold_each_other_are_found() -> None:
    assert circle_of_roles({"a": ("b",), "b": ("c",), "c": ("d",)}) is None
    assert circle_of_roles({"a": ("b",), "b": ("c",), "c": ("a",)}) in ("a", "b", "c")
    assert circle_of_roles({"a": ("a",)}) == "a"
    assert circle_of_roles({f"r{n}": (f"r{n + 1}",) for n in range(5_000)}) is None       # no recursion


def test_a_role_is_held_over_others_too() -> None:
    assert set(holders_of({"reader": ("operator",), "operator": ("chief",)})["reader"]) == {"operator", "chief"}
    assert holders_of({"a": ("b",), "b": ("a",)})["a"] == ("b",)        # two nodes may have made a circle together
