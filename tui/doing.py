"""What changes something: acts with their preview, logins, another node."""
from __future__ import annotations

from typing import Any

from textual import work

from tui import contexts
from tui.api.client import Client
from tui.api.errors import ApiError
from tui.api.target import Target
from tui.keys import Keys
from tui.widgets.dialogs import ActsMenu, Confirm, Login


class Doing(Keys):
    @work(exclusive=True, group="acts", exit_on_error=False)
    async def action_acts(self) -> None:
        view = self.view
        if view is None or not self.may_act:
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
            view.remove()
        self.views = []
        self.command("pulse")
