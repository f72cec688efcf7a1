"""Who is logged in to the console: one's own sessions, and ending any of them.

    GET sessions, DELETE sessions/ID        one's own; whoever may look may end what is his
    DELETE logins/ID, POST logins/end       anybody's; needs the right to administer

A session that was ended answers its next request with 401, and its open streams say goodbye within a second.
"""
from __future__ import annotations

from collections.abc import Callable

import msgspec

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import TEXT, Call, Endpoint, Values
from mesh.management.sessions import LoginSession, Sessions
from protocols.rest.problems import Problem
from routing.rights.policy import Action


class EndBody(msgspec.Struct):
    """Of POST logins/end."""

    user: str


class LoginActs:
    def __init__(self, sessions: Sessions, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: called when the table of logins is not what it was."""
        self._sessions = sessions
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "sessions", Action.VIEW, "Where you are logged in to this console.", self.own),
            Endpoint("DELETE", "sessions/{id}", Action.VIEW, "End a login of your own.", self.end_own, body={}),
            Endpoint("DELETE", "logins/{id}", Action.ADMINISTER, "End a login.", self.end_one, body={}),
            Endpoint("POST", "logins/end", Action.ADMINISTER, "End all logins of a user.", self.end_user,
                     body={"user": TEXT}),
        ]

    async def own(self, call: Call) -> Values:
        """`current`: the one that asks."""
        return {"sessions": [
            {**self._sessions.row(session), "current": session.identity is call.identity}
            for session in self._sessions if session.identity.user == call.identity.user]}

    async def end_own(self, call: Call) -> Values:
        return await self._end_one(call, lambda session: session.identity.user == call.identity.user)

    async def end_one(self, call: Call) -> Values:
        return await self._end_one(call, lambda session: True)

    async def _end_one(self, call: Call, may: Callable[[LoginSession], bool]) -> Values:
        name = call.names["id"]
        found = next((session for session in self._sessions if session.id == name and may(session)), None)
        if found is None:
            raise Problem(404, "not-found", f"there is no login {name[:100]}")
        preview = {"user": found.identity.user, "logins": 1, "address": found.identity.address}
        return await self._run(call, f"{found.identity.user} {name}", preview, lambda session: session.id == name)

    async def end_user(self, call: Call) -> Values:
        user = call.as_(EndBody).user
        count = sum(1 for session in self._sessions if session.identity.user == user)
        if not count:
            raise Problem(404, "not-found", f"{user[:100]} is not logged in")
        return await self._run(call, user, {"user": user, "logins": count},
                               lambda session: session.identity.user == user)

    async def _run(self, call: Call, target: str, preview: Values, chosen: Callable[[LoginSession], bool]) -> Values:
        def perform() -> Values:
            ended = self._sessions.end(chosen)
            self._changed()
            return {"ended": ended}
        return await self._acts.run(call, Act("login.end", target, preview, perform))
