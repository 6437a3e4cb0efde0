"""What tests against servers stand on: a word on a missing one, a proxy that hides nothing."""

from __future__ import annotations

import http.client

import pytest
import servers
from fault_proxy import Answer, Call, Forward, Proxy, Rule


@pytest.mark.parametrize(("required", "outcome"), [("1", "failed"), ("0", "skipped")])
def test_a_server_that_is_missing(
    required: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(servers.REQUIRED, required)
    monkeypatch.setitem(servers.HOW, "no-such-server", servers.SERVERS)
    raised = pytest.fail.Exception if outcome == "failed" else pytest.skip.Exception
    with pytest.raises(raised, match="no-such-server: `make servers` installs it"):
        servers.need("no-such-server")


def test_an_error_of_the_proxy_itself_reaches_the_test() -> None:
    def broken(call: Call, forward: Forward) -> Answer:
        raise LookupError("a mistake in the fault")

    with (
        pytest.raises(LookupError, match="a mistake"),
        Proxy(servers.free_port(), [Rule("ListShards", broken)]) as proxy,
    ):
        client = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=10)
        client.request("POST", "/", headers={"X-Amz-Target": "Kinesis_20131202.ListShards"})
        with pytest.raises(http.client.RemoteDisconnected):
            client.getresponse()
        client.close()
        assert proxy.spent()
