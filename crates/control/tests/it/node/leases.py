"""Looks at a node's membership as at any lease, over TLS, and ends it."""

import sys

import hvac
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest

address, root, ca, lease_id = sys.argv[1:]


def refused(kind, call, text=""):
    try:
        call()
    except kind as error:
        assert text in str(error), error
        return error
    raise AssertionError(f"expected {kind.__name__}")


client = hvac.Client(url=address, token=root, verify=ca)
prefix, name = lease_id.rsplit("/", 1)
assert name in client.sys.list_leases(prefix)["data"]["keys"]
lease = client.sys.read_lease(lease_id)["data"]
assert lease["id"] == lease_id and 0 < lease["ttl"]
renewed = client.sys.renew_lease(lease_id, increment=3600) if lease["renewable"] else None
assert renewed is None or renewed["lease_id"] == lease_id

# Tokens are leases like any other, but for their renewal, which their method judges.
made = client.auth.token.create(policies=["default"], ttl="1h")["auth"]
holder = hvac.Client(url=address, token=made["client_token"], verify=ca)
below = "auth/token/create"
before = client.sys.list_leases(below)["data"]["keys"]
assert len(before) == 1
token_lease = f"{below}/{before[0]}"
refused(
    InvalidRequest,
    lambda: client.sys.renew_lease(token_lease, increment=7200),
    "tokens cannot be renewed through this endpoint",
)
renewed = client.auth.token.renew(made["client_token"], increment=7200)
assert renewed["auth"]["lease_duration"] == 7200, renewed
refused(Forbidden, lambda: holder.sys.revoke_prefix(below))
refused(Forbidden, lambda: holder.sys.list_leases(below))
assert client.sys.revoke_lease(token_lease).status_code == 204
assert not holder.is_authenticated()
assert client.sys.revoke_lease(token_lease).status_code == 204, "twice does no harm"
refused(InvalidRequest, lambda: client.sys.renew_lease(token_lease), "lease not found")
refused(InvalidRequest, lambda: client.sys.read_lease(token_lease), "invalid lease")

assert client.sys.revoke_lease(lease_id).status_code == 204
refused(InvalidRequest, lambda: client.sys.read_lease(lease_id), "invalid lease")
many = [client.auth.token.create(ttl="1h")["auth"]["client_token"] for _ in range(3)]
client.sys.revoke_force(below)
assert not any(hvac.Client(url=address, token=it, verify=ca).is_authenticated() for it in many)
refused(InvalidPath, lambda: client.sys.list_leases(below))
counted = client.read("sys/leases/count?type=irrevocable")["data"]
assert counted["lease_count"] == 0
print("all checks passed")
