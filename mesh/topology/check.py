"""What [mesh] must hold beyond the types of its values. Called by mesh/configuration/checks.py."""
from __future__ import annotations

from collections.abc import Iterator

from mesh.topology.settings import MeshSettings


def check_mesh(settings: MeshSettings) -> Iterator[str]:
    """Each problem is one line that begins with the path of the setting."""
    for name, least, most in (
        ("gossip_interval_s", 0.1, 3_600), ("expiry_s", 0.3, 86_400), ("interest_linger_s", 0, 86_400),
        ("interest_filters_max", 1, 4_096), ("nodes_max", 2, 100_000), ("state_bytes_max", 4_096, 4 * 1024 * 1024),
        ("gossip_rate_bytes", 16 * 1024, 2**31 - 1), ("skew_warn_ms", 1, 2**53),
    ):
        value = getattr(settings, name)
        if not least <= value <= most:
            yield f"mesh.{name}: expected {least} to {most}, got {value}"
    if settings.expiry_s < 3 * settings.gossip_interval_s:
        yield "mesh.expiry_s: expected at least three times mesh.gossip_interval_s, or nodes that live are forgotten"
