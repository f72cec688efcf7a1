"""Claims: $cbs, where a client shows its token after it has come in as nobody. AMQP CBS, working draft.

    operation put-token · type · name (the audience) · value: the token

Where nobody has to log in any token is good. Elsewhere a token of the node's (an API key, or one of its issuers) makes
the connection its user's. A signature of a shared key (SharedAccessSignature sr=…) can not be checked there: the node
keeps no such keys.
"""
from __future__ import annotations

from collections.abc import Callable

from protocols.amqp.azure.desk import Answer, Request

PUT_TOKEN = "put-token"
SIGNATURE = "SharedAccessSignature sr="
_NO_KEYS = "a signature of a shared key cannot be checked here: show an API key or a token as SharedAccessSignature"

NewToken = Callable[[bytes, Callable[[bool], None]], None]


def claim(request: Request, answer: Answer, *, is_open: bool, is_safe: bool, new_token: NewToken) -> None:
    """is_open: nobody has to log in. is_safe: tokens may come over this connection. new_token(token, done): the
    connection is to be of its user.
    """
    token = request.value
    if request.text("operation") != PUT_TOKEN:
        answer(400, "$cbs knows the operation put-token", None)
    elif not isinstance(token, str | bytes) or not token:
        answer(400, "a token is text", None)
    elif is_open:
        answer(200, "OK", None)
    elif not is_safe:
        answer(401, "tokens are taken over TLS only", None)
    elif isinstance(token, str) and token.startswith(SIGNATURE):
        answer(401, _NO_KEYS, None)
    else:
        raw = token.encode() if isinstance(token, str) else bytes(token)

        def decided(fine: bool) -> None:
            if fine:
                answer(200, "OK", None)
            else:
                answer(401, "the token is refused", None)

        new_token(raw, decided)
