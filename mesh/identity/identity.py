"""Who is there: password, token, client certificate, or nobody. Called by every adapter when a client connects.

    authenticate ── locked out? ── remembered? ── in line (turns.py) ── argon2 in a thread ── policy: connect? ── done
              └──── token (API key, JWT: tokens.py) ─────────────────────────────────────────┘

A token comes as a password, on every protocol: as HTTP's Bearer without a user name, as MQTT's password with the name
of the token's user, with BEARER, or without one.
The answer for an unknown user takes the same time and the same words as that for a wrong password. What could not be
decided in time is BUSY, "try again": it is no failure and locks nobody out.
Sources: RFC 9106 (argon2), hostile.md rows 29 and 85.
"""
from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from mesh.identity.auth_settings import USER_BYTES_MAX, LoginSettings, user_problem
from mesh.identity.lockout import Lockout, network_of
from mesh.identity.remembered import Remembered
from mesh.identity.renewal import CERTIFICATE, PASSWORD, SCRAM, Renewal
from mesh.identity.tokens import Tokens, TokenUser
from mesh.identity.turns import Turns
from mesh.identity.users import AUTHENTICATED, User, cost_of, decoy_like, verify_password
from mesh.values.address import is_loopback
from mesh.values.units import format_duration
from routing.errors import Reason, Refusal
from routing.rights.policy import ANONYMOUS, Action, Identity, Policy

logger = logging.getLogger(__name__)

PASSWORD_BYTES_MAX = 4_096
BEARER = "bearer"                       # user name of clients that must send one and have only a token
COST_FIRST_S = 0.03                     # of a verification, until one was measured
STORM = 50                              # logins that wait for a check: now the last core is used, too
RETRY_MAX_S = 30                        # what a client is told to wait at most

Done = Callable[[Identity | Refusal], None]
Cancel = Callable[[], None]
_BAD = Refusal(Reason.BAD_CREDENTIALS, "user name or password is wrong")
_GUESSES = Refusal(Reason.BUSY, "too many logins of this user are under way, try again in a second", 1)
_NOBODY = Refusal(Reason.BAD_CREDENTIALS, "this node wants a user name and a password")


class _Waiter:
    """One client that waits for an answer."""

    __slots__ = ("done", "identity")

    def __init__(self, identity: Identity, done: Done) -> None:
        self.identity = identity
        self.done = done


class _Attempt:
    """One verification that is due or under way, with everybody who waits for the same answer."""

    __slots__ = ("came_ms", "deadline_s", "digest", "known", "network", "password", "stored", "user", "waiting")

    def __init__(self, digest: bytes, identity: Identity, known: User | None, password: bytes, stored: str,
                 deadline_s: float, came_ms: int) -> None:
        self.digest = digest
        self.user = identity.user
        self.network = network_of(identity.address)
        self.known = known
        self.password = password
        self.stored = stored
        self.deadline_s = deadline_s
        self.came_ms = came_ms
        self.waiting: list[_Waiter] = []


class Authenticator:
    """Answers on the event loop, at once when it can. Loop thread only, but for the worker's verification."""

    def __init__(
        self, users: Iterable[User], policy: Policy, *, call_on_loop: Callable[[Callable[[], None]], object],
        clock_ms: Callable[[], int], now_s: Callable[[], float], tokens: Tokens | None = None,
        settings: LoginSettings | None = None, remembered: Remembered | None = None,
        anonymous: bool = True,
    ) -> None:
        """remembered: what was proven before this start; it has been loaded.

        anonymous: False: nobody comes in without a proof, whatever a policy says.
        """
        self.tokens = tokens if tokens is not None else Tokens({}, (), clock_ms=clock_ms, now_s=now_s)
        self.settings = settings = settings if settings is not None else LoginSettings()
        self._policy = policy
        self._anonymous = anonymous
        self._call_on_loop = call_on_loop
        self._clock_ms = clock_ms
        self._now_s = now_s
        self._lockout = Lockout()
        self.remembered = remembered if remembered is not None else Remembered(None, settings.remembered_max, 0)
        self._attempts: dict[bytes, _Attempt] = {}                  # due or under way, in the order they came
        self._turns: Turns[_Attempt] = Turns(settings.waiting_max)
        # One core is left to the loop and the log, but where a plant comes back whose passwords nobody remembers.
        # Handed over are as many attempts as threads, and as many again, so that a thread does not wait for the loop.
        cores = os.cpu_count() or 1
        self._usual_threads = settings.threads or max(1, cores - 1)
        self._threads_max = settings.threads or cores
        self._worker = ThreadPoolExecutor(self._threads_max, thread_name_prefix="login")
        self._handed_over = 0
        self._cost_s = COST_FIRST_S
        self.outcomes: Counter[tuple[str, str]] = Counter()         # (protocol, "ok" | reason) → logins
        self.on_refused: list[Callable[[Identity, str], None]] = []     # told of who was not let in, and why
        self.on_users: list[Callable[[], None]] = []                # told when users are not what they were
        self._users: dict[str, User] = {}
        self._decoy = decoy_like(None)
        self.renewal = Renewal(lambda: self._users, self.tokens, policy)
        self.replace(users)

    @property
    def open(self) -> bool:
        """True when no users, keys or issuers are configured: everybody is anonymous, from this machine only."""
        return not self._users and not self.tokens.configured

    @property
    def locked_count(self) -> int:
        return self._lockout.locked_count(self._now_s())

    @property
    def _threads(self) -> int:
        """How many verify just now."""
        return self._threads_max if self._turns.count >= STORM else self._usual_threads

    @property
    def waiting_count(self) -> int:
        """Verifications that are due."""
        return self._turns.count

    def replace(self, users: Iterable[User]) -> None:
        """Take the users of a new configuration."""
        self._users = {user.name: user for user in users}
        stored = next((user.password_hash for user in self._users.values() if user.password_hash is not None), None)
        if stored is not None and cost_of(stored) != cost_of(self._decoy):
            self._decoy = decoy_like(stored)    # an unknown user must cost what a known one does
        for told in self.on_users:
            told()

    def authenticate(
        self, username: str | None, password: bytes | None, protocol: str, client_id: str, address: str, done: Done,
        certificate_name: str | None = None,
    ) -> Cancel | None:
        """Tell done who this is, or why not. Returns what to call when the client has gone, None when it is answered.

        username, password: as they came; a token is a password.  address: "host:port" of the peer.
        certificate_name: common name of a client certificate that TLS has verified; it decides alone, and a user name
        beside it must be the same.
        """
        name = username or ""
        identity = Identity(name, (), protocol=protocol, client_id=client_id, address=address)
        if certificate_name is not None:
            self._by_certificate(identity, certificate_name, done)
        elif password is not None and not self.open and self.tokens.is_token(password):
            return self._by_token(identity, password, done)
        elif self.open or (not name and password is None):
            self._nobody(msgspec.structs.replace(identity, user=ANONYMOUS), done)
        elif not name or password is None or len(password) > PASSWORD_BYTES_MAX or len(name) > USER_BYTES_MAX:
            self._refuse(identity, _BAD, done)
        else:
            return self._by_password(identity, password, done)
        return None

    def mark_of(self, username: str) -> str | None:
        """See protocols/server.py."""
        user = self._users.get(username)
        if user is None:
            return None
        return hashlib.sha256((user.password_hash or "").encode()).hexdigest()[:32]

    def proven(self, username: str, good: bool, protocol: str, client_id: str, address: str, done: Done) -> None:
        """A protocol has checked a proof for itself: admit the user, or count a failure as that of a password."""
        now_s, network = self._now_s(), network_of(address)
        identity = Identity(username, (), protocol=protocol, client_id=client_id, address=address, proof=SCRAM)
        user = self._users.get(username)
        if math.ceil(self._lockout.locked_s(username, network, now_s)):
            self._refuse(identity, _BAD, done)
        elif good and user is not None:
            self._lockout.forget(username, network)
            self._admit(identity, user.roles, done)
        else:
            if self._lockout.fail(username, network, now_s):
                logger.warning("user %r from %s is locked out after repeated failures", username[:USER_BYTES_MAX],
                               network)
            self._refuse(identity, _BAD, done)

    def close(self) -> None:
        self.tokens.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _by_certificate(self, identity: Identity, certificate_name: str, done: Done) -> None:
        if user_problem(certificate_name) is not None or identity.user not in ("", certificate_name):
            self._refuse(identity, _BAD, done)
            return
        user = self._users.get(certificate_name, User(certificate_name, (), None))
        self._admit(msgspec.structs.replace(identity, user=certificate_name, proof=CERTIFICATE), user.roles, done)

    def _nobody(self, identity: Identity, done: Done) -> None:
        """Nobody logged in: allowed from this machine when there are no users, or where a policy says so."""
        host = identity.address.rpartition(":")[0].strip("[]")
        if not self._anonymous or (self.open and host and not is_loopback(host)):
            self._refuse(identity, _NOBODY, done)
        elif self._policy.decide(identity, Action.CONNECT).allowed:
            self._count(identity, "ok")
            done(identity)
        else:
            self._refuse(identity, _NOBODY, done)

    def _by_token(self, identity: Identity, token: bytes, done: Done) -> Cancel | None:
        """No lock-out: nobody guesses a token, and who shares an address with an expired one must not suffer for it."""
        def answered(found: TokenUser | Refusal) -> None:
            if isinstance(found, Refusal):
                self._refuse(identity, found, done)
            elif identity.user not in ("", BEARER, found.user):
                self._refuse(identity, _BAD, done)
            else:
                known = msgspec.structs.replace(
                    identity, user=found.user, expires_ms=found.expires_ms, proof=found.proof)
                self._admit(known, found.roles, done)

        return self.tokens.identify(token, answered)

    # -- passwords ----------------------------------------------------------------------------------------------

    def _by_password(self, identity: Identity, password: bytes, done: Done) -> Cancel | None:
        now_s = self._now_s()
        network = network_of(identity.address)
        locked_s = math.ceil(self._lockout.locked_s(identity.user, network, now_s))
        if locked_s:
            text = f"too many failed logins, try again in {format_duration(locked_s)}"
            self._refuse(identity, Refusal(Reason.LOCKED_OUT, text, locked_s), done)
            return None
        user = self._users.get(identity.user)
        has_password = user is not None and user.password_hash is not None
        stored = user.password_hash if user is not None and user.password_hash is not None else self._decoy
        digest = self.remembered.digest(identity.user, password, stored if has_password else "")
        if user is not None and has_password and self.remembered.has(digest, now_s):
            self._admit(msgspec.structs.replace(identity, proof=PASSWORD), user.roles, done)
            return None
        attempt = self._attempts.get(digest)
        if attempt is None:
            if not self._lockout.may_try(identity.user, network, now_s):
                self._refuse(identity, _GUESSES, done)
                return None
            if self._turns.ahead_of(identity.user, network) * self._cost_s / self._threads > self.settings.waiting_s:
                self._refuse(identity, self._busy(), done)
                return None
            attempt = _Attempt(
                digest, identity, user, password, stored, now_s + self.settings.waiting_s, self._clock_ms())
            gone = self._turns.add(attempt)
            if gone is attempt:
                self._refuse(identity, self._busy(), done)
                return None
            self._attempts[digest] = attempt
            self._lockout.begin(attempt.user, network, now_s)
            if gone is not None:
                self._give_up(gone)
        waiter = _Waiter(identity, done)
        attempt.waiting.append(waiter)
        self._hand_over()
        return lambda: self._gone(attempt, waiter)

    def _gone(self, attempt: _Attempt, waiter: _Waiter) -> None:
        """The client does not wait any more. What nobody waits for and has not begun is not done."""
        if waiter in attempt.waiting:
            attempt.waiting.remove(waiter)
        if not attempt.waiting and self._turns.discard(attempt):
            self._forget(attempt)

    def _hand_over(self) -> None:
        """Give the threads what is next; those who waited too long are told so."""
        now_s = self._now_s()
        late: list[_Attempt] = []
        for attempt in self._attempts.values():                     # in the order of their deadlines
            if attempt.deadline_s > now_s:
                break
            late.append(attempt)
        for attempt in late:
            if self._turns.discard(attempt):                        # else a thread has it
                self._give_up(attempt)
        while self._handed_over < 2 * self._threads:
            next_one = self._turns.take()
            if next_one is None:
                return
            self._handed_over += 1
            self._worker.submit(self._verify, next_one)

    def _give_up(self, attempt: _Attempt) -> None:
        """Not decided in time: nobody knows whether the password was right."""
        self._forget(attempt)
        self._tell_busy(attempt)

    def _tell_busy(self, attempt: _Attempt) -> None:
        busy = self._busy()
        for waiter in attempt.waiting:
            self._refuse(waiter.identity, busy, waiter.done)

    def _forget(self, attempt: _Attempt) -> None:
        self._attempts.pop(attempt.digest, None)
        self._lockout.end(attempt.user, attempt.network)

    def _busy(self) -> Refusal:
        wait_s = math.ceil(self._turns.count * self._cost_s / self._threads / 2)
        wait_s = min(max(wait_s, 1), RETRY_MAX_S)
        return Refusal(Reason.BUSY, f"too many logins at once, try again in {format_duration(wait_s)}", wait_s)

    def _verify(self, attempt: _Attempt) -> None:
        """On a thread: the slow comparison. A password that was right is remembered, also when its client has gone."""
        begun_s = time.perf_counter()
        known = attempt.known is not None and attempt.known.password_hash is not None
        good = verify_password(attempt.stored, attempt.password) and known
        cost_s = time.perf_counter() - begun_s
        if good:
            self.remembered.store(attempt.digest, attempt.came_ms)
        try:
            self._call_on_loop(lambda: self._finish(attempt, good, cost_s))
        except RuntimeError:        # the loop is gone: the node stopped meanwhile
            logger.debug("= a login outlived the node")

    def _finish(self, attempt: _Attempt, good: bool, cost_s: float) -> None:
        """Back on the loop: tell everybody who waited for this answer."""
        self._handed_over -= 1
        self._cost_s += (cost_s - self._cost_s) / 8
        self._forget(attempt)
        now_s = self._now_s()
        user = self._users.get(attempt.user)
        if good and user is not None and user.password_hash == attempt.stored:
            self.remembered.add(attempt.digest, now_s)
            for waiter in attempt.waiting:
                self._lockout.forget(attempt.user, network_of(waiter.identity.address))
                self._admit(msgspec.structs.replace(waiter.identity, proof=PASSWORD), user.roles, waiter.done)
        elif good:                                                  # right for what the user was before a reload
            self._tell_busy(attempt)
        else:
            self._failed(attempt, now_s)
        self._hand_over()

    def _failed(self, attempt: _Attempt, now_s: float) -> None:
        """One guess is one failure for each address that it came from, also when nobody waits for it any more."""
        addresses = [waiter.identity.address for waiter in attempt.waiting]
        for network in {attempt.network, *map(network_of, addresses)}:
            if self._lockout.fail(attempt.user, network, now_s):
                logger.warning("user %r from %s is locked out after repeated failures",
                               attempt.user[:USER_BYTES_MAX], network)
        for waiter in attempt.waiting:
            self._refuse(waiter.identity, _BAD, waiter.done)

    # -- answers ------------------------------------------------------------------------------------------------

    def _admit(self, identity: Identity, roles: tuple[str, ...], done: Done) -> None:
        known = msgspec.structs.replace(identity, roles=(*roles, AUTHENTICATED))
        refusal = self._policy.refuse(known, Action.CONNECT, "", self._clock_ms())
        self._count(known, "ok" if refusal is None else refusal.reason.value)
        done(known if refusal is None else refusal)

    def _refuse(self, identity: Identity, refusal: Refusal, done: Done) -> None:
        shown = msgspec.structs.replace(identity, user=identity.user[:USER_BYTES_MAX])
        self._policy.record_denial(shown, Action.CONNECT, "", refusal.reason.value, self._clock_ms())
        self._count(identity, refusal.reason.value)
        for told in self.on_refused:
            told(shown, refusal.reason.value)
        done(refusal)

    def _count(self, identity: Identity, outcome: str) -> None:
        self.outcomes[identity.protocol, outcome] += 1
