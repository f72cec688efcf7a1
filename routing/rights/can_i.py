"""can-i: the decision, the rule that made it, the one that would make it next, and the nearest change that flips it.

The same rules in the same order as on the data path: permissions.py finds them, this only says what it found.
"""
from __future__ import annotations

import msgspec

from routing.rights.permissions import BY_TOPIC, NO_RULE, Permissions, RuleSet
from routing.rights.rules import ANONYMOUS, CLIENT, Action, Decision, Identity, Rule, marks_of


class Change(msgspec.Struct, frozen=True):
    """One step, or two where a deny stands before something that nothing allows anyway."""

    remove: tuple[str, ...] = ()        # rules, by name
    add: Rule | None = None             # never wider than what was asked
    role: str = ""                      # to be given to the user

    @property
    def text(self) -> str:
        steps = [f"remove {name}" for name in self.remove]
        if self.role:
            steps.append(f"give the user the role {self.role}")
        if self.add is not None:
            verb, actions = ("allow", self.add.allow) if self.add.allow else ("deny", self.add.deny)
            steps.append(f"{verb} {actions[0].value} to {self.add.to[0]}"
                         + (f" on {self.add.topics[0]}" if self.add.topics else ""))
        return ", and ".join(steps)


class Answer(msgspec.Struct, frozen=True):
    decision: Decision
    runner_up: str                      # decides when the deciding rule is taken away
    change: Change | None               # None: no rule can name this user or topic


def can_i(rules: RuleSet, permissions: Permissions, identity: Identity, action: Action, topic: str) -> Answer:
    """permissions: of the identity, by these rules."""
    denying = sorted(set(permissions.denying(action, topic)))
    allowing = sorted(set(permissions.allowing(action, topic)))
    deciding = [*denying, *allowing]
    names = [rules.rules[number].name for number in deciding]
    decision = permissions.decide(action, topic)
    runner_up = names[1] if len(names) > 1 else NO_RULE if names else ""
    if denying:
        lacking = None if allowing else rule_for(identity, action, topic, allow=True)
        change = Change(tuple(names[:len(denying)]), lacking) if allowing or lacking is not None else None
    elif len(allowing) == 1:
        change = Change((names[0],))
    elif allowing:
        change = _adding(rule_for(identity, action, topic, allow=False))
    else:
        role = _role_that_allows(rules, identity, action, topic)
        change = Change(role=role) if role else _adding(rule_for(identity, action, topic, allow=True))
    return Answer(decision, runner_up, change)


def _adding(rule: Rule | None) -> Change | None:
    return Change(add=rule) if rule is not None else None


def rule_for(identity: Identity, action: Action, topic: str, *, allow: bool) -> Rule | None:
    """A rule for this very request; None where a name or topic would be read as a mark."""
    if CLIENT in identity.user or marks_of(topic) or "%u" in identity.user:
        return None
    to = (ANONYMOUS if identity.user == ANONYMOUS else f"user:{identity.user}",)
    topics = (topic,) if action in BY_TOPIC else ()
    return Rule(allow=(action,), to=to, topics=topics) if allow else Rule(deny=(action,), to=to, topics=topics)


def _role_that_allows(rules: RuleSet, identity: Identity, action: Action, topic: str) -> str:
    """The first role that lacks; "" when none would do."""
    for role in rules.roles:
        if role not in identity.roles:
            with_role = msgspec.structs.replace(identity, roles=(*identity.roles, role))
            if Permissions(rules, with_role).decide(action, topic).allowed:
                return role
    return ""
