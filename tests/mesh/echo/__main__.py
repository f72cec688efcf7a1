"""`meshgate` with the toy protocol: the one line stands here and not in mesh/protocols.py."""
from __future__ import annotations

from mesh import protocols
from tests.mesh.echo.spec import ECHO

protocols.PROTOCOLS += (ECHO,)

from mesh.cli import main  # noqa: E402  (the configuration is made of PROTOCOLS when it is imported)

raise SystemExit(main())
