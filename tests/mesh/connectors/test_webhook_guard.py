"""Where a webhook may not go: hostile.md row 80."""
from __future__ import annotations

import pytest

from mesh.connectors.webhook_guard import Guard, TargetRefused


@pytest.mark.parametrize("url", [
    "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/", "http://127.0.0.1:8080/", "http://127.1/",
    "http://0x7f.1/", "http://0x7f000001/", "http://2130706433/", "http://017700000001/", "http://0/", "http://[::1]/",
    "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[2002:7f00:1::]/",
    "http://[64:ff9b::7f00:1]/", "http://[fd00:ec2::254]/", "http://10.0.0.1/", "http://172.16.0.1/",
    "http://192.168.1.1/", "http://100.100.100.200/", "http://168.63.129.16/", "http://224.0.0.1/", "http://[ff02::1]/",
    "http://255.255.255.255/", "http://localhost/", "http://localhost./", "http://LOCALHOST/", "http://a.localhost/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "javascript:alert(1)", "//example.com/",
    "http:///path", "", "example.com", "http://user:password@example.com/", "http://example.com/#part",
    "http://example.com:0/", "http://example.com:99999/", "http://exa mple.com/", "http://example.com/\r\nX: y",
    "http://example.com\\@127.0.0.1/", "http://ex\u00e4mple.com/", "http://example.com/" + "x" * 2_100,
])
def test_a_url_to_the_inside_is_refused(url):
    with pytest.raises(TargetRefused):
        Guard().check_url(url)


@pytest.mark.parametrize("url", [
    "https://example.com/hook", "http://example.com:8080/hook?a=b%20c", "https://93.184.216.34/x",
    "https://[2606:2800:220:1::1]/", "https://sub.example.com./",
])
def test_a_public_url_is_fine(url):
    assert Guard().check_url(url).host


def test_what_the_configuration_allows_may_be_called_and_nothing_else():
    guard = Guard(("10.1.0.0/16", "::1/128"))
    guard.check_url("http://10.1.2.3/")
    guard.check_url("http://[::1]:9/")
    guard.check_address("::ffff:10.1.2.3")
    for address in ("10.2.0.1", "127.0.0.1", "fe80::1"):
        with pytest.raises(TargetRefused):
            guard.check_address(address)


@pytest.mark.parametrize("address", [
    "127.0.0.1", "fe80::1%eth0", "::ffff:169.254.169.254", "2002:a00:1::", "nonsense",
    "fec0::1", "::127.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b:1::10.0.0.1", "3fff::1", "5f00::1", "192.88.99.1",
])
def test_an_address_that_dns_gave_is_looked_at_too(address):
    with pytest.raises(TargetRefused):
        Guard().check_address(address)
