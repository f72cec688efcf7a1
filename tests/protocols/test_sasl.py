"""protocols/authentication/sasl.py: what the messages of PLAIN, OAUTHBEARER and XOAUTH2 say, for every protocol."""
from __future__ import annotations

import pytest

from protocols.authentication.sasl import bearer_of, plain_of


@pytest.mark.parametrize(("response", "said"), [
    (b"\0ana\0secret", ("ana", b"secret")),
    (b"ana\0ana\0secret", ("ana", b"secret")),
    (b"\0\xc3\xa4\0\xff\xfe", ("ä", b"\xff\xfe")),
    (b"\0\0a token", ("", b"a token")),
    (b"eve\0ana\0secret", None),                        # to act for another user
    (b"\0ana", None), (b"ana secret", None), (b"", None), (b"\0ana\0se\0cret", None),
    (b"\0\xff\0secret", None), (b"\xff\0ana\0secret", None),
])
def test_plain(response, said):
    """RFC 4616 §2."""
    assert plain_of(response) == said


@pytest.mark.parametrize(("response", "said"), [
    (b"n,,\x01auth=Bearer abc\x01\x01", ("", b"abc")),
    (b"n,a=ana,\x01host=x\x01port=1\x01auth=bearer abc\x01\x01", ("ana", b"abc")),
    (b"user=ana\x01auth=Bearer abc\x01\x01", ("ana", b"abc")),
    (b"user=\x01auth=Bearer abc\x01\x01", ("", b"abc")),
    (b"n,,\x01\x01", None), (b"n,,\x01auth=Bearer \x01\x01", None), (b"n,,\x01auth=Basic abc\x01\x01", None),
    (b"p=tls-unique,,\x01auth=Bearer abc\x01\x01", None),       # with channel binding, which is not there
    (b"auth=Bearer abc", None), (b"", None), (b"\x01", None), (b"n,,\x01auth=Bearer \xff\x01\x01", None),
])
def test_bearer(response, said):
    """RFC 7628 §3.1; XOAUTH2 as Google describes it."""
    assert bearer_of(response) == said
