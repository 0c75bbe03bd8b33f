"""Plays what users of hvac do, and ends with an error at the first difference from Vault."""

import sys

import hvac
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest

address, root = sys.argv[1:]


def refused(kind, call, text=""):
    try:
        call()
    except kind as error:
        assert text in str(error), error
        return error
    raise AssertionError(f"expected {kind.__name__}")


client = hvac.Client(url=address, token=root)
assert client.is_authenticated() and client.sys.is_initialized() and not client.sys.is_sealed()
assert not hvac.Client(url=address, token="wrong").is_authenticated()
assert client.lookup_token()["data"]["id"] == root
assert client.sys.read_health_status(method="GET")["initialized"]
assert client.sys.read_health_status().status_code == 200
assert client.sys.read_leader_status()["ha_enabled"] is False

kv = client.secrets.kv.v2
read = lambda path, **how: kv.read_secret_version(path, raise_on_deleted_version=True, **how)["data"]
first = {"user": "ada", "number": 12345678901234567, "deep": {"list": [1, 2.5, None, True]}}
assert kv.create_or_update_secret("app/db", secret=first)["data"]["version"] == 1
assert read("app/db")["data"] == first
kv.create_or_update_secret("app/db", secret={"user": "eve"}, cas=1)
refused(
    InvalidRequest,
    lambda: kv.create_or_update_secret("app/db", secret={}, cas=1),
    "check-and-set parameter did not match",
)
kv.patch("app/db", secret={"new": "field"})
assert read("app/db")["data"] == {"user": "eve", "new": "field"}
assert read("app/db", version=1)["data"] == first
assert kv.list_secrets("app")["data"]["keys"] == ["db"]
assert kv.list_secrets("")["data"]["keys"] == ["app/"]
kv.delete_latest_version_of_secret("app/db")
error = refused(InvalidPath, lambda: read("app/db"))
assert error.json["data"]["metadata"]["deletion_time"] != ""
assert kv.undelete_secret_versions("app/db", [3]).status_code == 204
assert read("app/db")["metadata"]["version"] == 3
kv.destroy_secret_versions("app/db", [1])
metadata = kv.read_secret_metadata("app/db")["data"]
assert metadata["versions"]["1"]["destroyed"] and metadata["current_version"] == 3
kv.update_metadata("app/db", max_versions=2, custom_metadata={"a": "b"})
assert kv.read_secret_metadata("app/db")["data"]["custom_metadata"] == {"a": "b"}
kv.configure(max_versions=5)
assert kv.read_configuration()["data"]["max_versions"] == 5
kv.delete_metadata_and_all_versions("app/db")
refused(InvalidPath, lambda: kv.list_secrets("app"))

client.sys.create_or_update_policy(
    "reader", 'path "secret/data/team/*" { capabilities = ["read"] } path "sys/x" { policy = "write" }'
)
client.sys.create_or_update_policy("json", {"path": {"sys/mounts": {"capabilities": ["read"]}}})
assert {"default", "json", "reader", "root"} <= set(client.sys.list_policies()["data"]["policies"])
assert "team" in client.sys.read_policy("reader")["data"]["rules"]
client.sys.enable_auth_method("userpass")
assert client.sys.list_auth_methods()["data"]["userpass/"]["type"] == "userpass"
client.auth.userpass.create_or_update_user("Ada", password="secret word", policies="reader,json")
assert client.auth.userpass.list_user()["data"]["keys"] == ["ada"]
user = hvac.Client(url=address)
login = user.auth.userpass.login("ada", "secret word")
assert login["auth"]["policies"] == ["default", "json", "reader"], login
assert user.lookup_token()["data"]["display_name"] == "userpass-ada"
kv.create_or_update_secret("team/x", secret={"a": "1"})
team = user.secrets.kv.v2
assert team.read_secret_version("team/x", raise_on_deleted_version=True)["data"]["data"] == {"a": "1"}
assert "secret/" in user.sys.list_mounted_secrets_engines()["data"]
refused(Forbidden, lambda: team.read_secret_version("other", raise_on_deleted_version=True))
refused(Forbidden, lambda: team.create_or_update_secret("team/x", secret={}))
refused(Forbidden, user.sys.list_policies)
for name, word in (("ada", "wrong"), ("nobody", "secret word")):
    attempt = lambda: hvac.Client(url=address).auth.userpass.login(name, word)
    refused(InvalidRequest, attempt, "invalid username or password")
told = client.sys.get_capabilities(paths=["secret/data/team/x"], token=user.token)
assert told["data"]["capabilities"] == ["read"]

made = client.auth.token.create(policies=["reader"], ttl="1h", meta={"k": "v"})["auth"]
assert client.auth.token.lookup(made["client_token"])["data"]["meta"] == {"k": "v"}
assert client.auth.token.lookup_accessor(made["accessor"])["data"]["id"] == ""
assert made["accessor"] in client.auth.token.list_accessors()["data"]["keys"]
holder = hvac.Client(url=address, token=made["client_token"])
renewed = holder.auth.token.renew_self(increment="2h")["auth"]
assert renewed["lease_duration"] == 7200 and renewed["client_token"] == made["client_token"]
parent = client.auth.token.create(policies=["root"], ttl="1h")["auth"]["client_token"]
parent = hvac.Client(url=address, token=parent)
child = parent.auth.token.create(policies=["default"])["auth"]["client_token"]
child = hvac.Client(url=address, token=child)
assert child.is_authenticated()
client.auth.token.revoke(parent.token)
assert not child.is_authenticated() and not parent.is_authenticated()
client.auth.token.revoke_accessor(made["accessor"])
assert not holder.is_authenticated()
refused(InvalidRequest, lambda: client.auth.token.lookup_accessor(made["accessor"]), "invalid accessor")
twice = client.auth.token.create(policies=["default"], num_uses=2)["auth"]["client_token"]
twice = hvac.Client(url=address, token=twice)
twice.lookup_token()
twice.lookup_token()
assert not twice.is_authenticated()

client.sys.enable_secrets_engine("kv", path="test", options={"version": 1})
assert client.sys.list_mounted_secrets_engines()["data"]["test/"]["options"] == {"version": "1"}
client.secrets.kv.v1.create_or_update_secret("foo", secret={"x": "y"}, mount_point="test")
assert client.secrets.kv.v1.read_secret("foo", mount_point="test")["data"] == {"x": "y"}
assert client.sys.read_mount_configuration("test")["data"]["default_lease_ttl"] == 2764800
client.sys.tune_mount_configuration("test", default_lease_ttl="3600s")
assert client.sys.read_mount_configuration("test")["data"]["default_lease_ttl"] == 3600
client.sys.move_backend("test", "moved")
assert client.secrets.kv.v1.read_secret("foo", mount_point="moved")["data"] == {"x": "y"}
assert client.sys.disable_secrets_engine("moved").status_code == 204
assert "moved/" not in client.sys.list_mounted_secrets_engines()["data"]

names = client.sys.list_leases("auth/userpass/login/ada")["data"]["keys"]
lease = client.sys.read_lease("auth/userpass/login/ada/" + names[0])["data"]
assert 0 < lease["ttl"] <= 2764800 and lease["renewable"]
client.sys.revoke_prefix("auth/userpass/login")
assert not user.is_authenticated()
refused(InvalidPath, lambda: client.sys.list_leases("auth/userpass/login"))
client.write("cubbyhole/a", b="1")
assert client.read("cubbyhole/a")["data"] == {"b": "1"}
assert client.read("cubbyhole/none") is None
print("all checks passed")
