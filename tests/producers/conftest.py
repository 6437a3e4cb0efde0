"""What several tests of the bridge begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bridge_rig import CLIENTS, Rig
from scripted_broker import ScriptedBroker


@pytest.fixture(params=CLIENTS)
def there(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedBroker]:
    """A broker for either client."""
    monkeypatch.setattr(Rig, "client", CLIENTS[request.param])
    with ScriptedBroker() as found:
        yield found
        Rig.close_all()
