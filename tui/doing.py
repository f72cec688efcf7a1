"""What changes something: acts with their preview, logins, another node."""
from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from textual import work

from tui import contexts
from tui.api.client import ANSWER_MAX_S, Client
from tui.api.errors import ApiError
from tui.api.target import Target
from tui.keys import Keys
from tui.views.view import View
from tui.widgets.dialogs import ActsMenu, Asked, Confirm, Login

LOOK_S: Final = 0.05                # between two looks whether the answer is there


class Doing(Keys):
    @work(exclusive=True, group="acts", exit_on_error=False)
    async def action_acts(self) -> None:
        view = self.view
        if view is None or not (self.readonly or await self._known(view)):
            return
        if not self.may_act:
            self.say("Started with --readonly." if self.readonly else "You may look, not act: that needs the right to "
                     "operate.", "warning")
            return
        acts = view.acts(self.may)
        if not acts:
            self.say("Nothing can be done here.")
            return
        act = await self.push_screen_wait(ActsMenu(view.subject(), acts))
        if act is None:
            return
        if act.asks[0]:
            value = await self.push_screen_wait(Asked(act))
            if value is None:
                return
            act = act.told(value)
        try:
            preview = await self.client.act(act.method, act.path, {**act.body, "dry_run": True})
            reason = await self.push_screen_wait(Confirm(act, preview))
            if reason is None:
                return
            done = await self.client.act(act.method, act.path, {**act.body, "reason": reason})
        except ApiError as error:
            self.say(error.text, "error")
            return
        self.say(f"done: {act.label}; audit record {done.get('audit')}")
        self.follow()

    async def _known(self, view: View) -> bool:
        """What the view shows is there, and who we are: waits for it. False: it did not come, which is said."""
        end_s = time.monotonic() + ANSWER_MAX_S
        if not (view.loaded and self.me):
            self.say("Asking the node what can be done here …")
        while not (view.loaded and self.me):
            await asyncio.sleep(LOOK_S)
            if view is not self.view:
                return False
            if time.monotonic() >= end_s:
                self.say("The node has not said yet what you may do.", "warning")
                return False
        return True

    @work(exclusive=True, group="login", exit_on_error=False)
    async def ask_login(self, problem: str) -> None:
        try:
            while True:
                target = self.client.target
                answer = await self.push_screen_wait(Login(target.shown, target.user, problem))
                if answer is None:
                    return
                try:
                    found = await self._login(*answer)
                except ApiError as error:
                    problem = error.text
                    continue
                await self.client.use(target.with_token(found["token"], found["user"]))
                self.me = {}
                self._remember(found["token"])
                self.follow()
                return
        finally:
            self.asking = False

    async def _login(self, user: str, password: str) -> dict[str, Any]:
        target = self.client.target
        client = Client(Target(target.url, target.socket, "", user, target.ca))
        try:
            return await client.post("login", {"user": user, "password": password})
        finally:
            await client.close()

    def _remember(self, token: str) -> None:
        """The token goes where the context has its old one."""
        name = self.client.target.context
        if not name:
            return
        try:
            known = contexts.load()
            before = known.find(name)
            known.contexts[name] = contexts.Context(before.url, self.client.target.user, token, before.ca)
            contexts.save(known)
        except ApiError as error:
            self.say(error.text, "warning")

    @work(exclusive=True, group="context", exit_on_error=False)
    async def use_context(self, name: str) -> None:
        try:
            target = contexts.load().find(name).target(name)
        except ApiError as error:
            self.say(error.text, "warning")
            return
        if self._feeding is not None:
            self._feeding.cancel()
        await self.client.use(target)
        self.me, self.node = {}, {}
        self.feed.health = type(self.feed.health)(self._clock)
        for view in self.views:
            self.drop(view)
        self.views = []
        self.command("pulse")
