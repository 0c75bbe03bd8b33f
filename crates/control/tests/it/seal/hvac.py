"""Initialises, opens, seals and resets a server as users of hvac do, and ends with an error at the
first difference from Vault."""

import sys

import hvac
from hvac.exceptions import Forbidden, InvalidRequest, VaultDown

(address,) = sys.argv[1:]


def refused(kind, call, text=""):
    try:
        call()
    except kind as error:
        assert text in str(error), error
        return error
    raise AssertionError(f"expected {kind.__name__}")


client = hvac.Client(url=address)
health = lambda: client.sys.read_health_status(method="GET")
assert not client.sys.is_initialized() and client.sys.is_sealed()
assert health().status_code == 501
refused(VaultDown, lambda: client.read("secret/data/a"), "sealed")
init = client.sys.initialize
refused(InvalidRequest, lambda: init(secret_shares=3, secret_threshold=1), "invalid seal config")
refused(InvalidRequest, lambda: init(secret_shares=2, secret_threshold=3), "larger than shares")
made = init(secret_shares=5, secret_threshold=3)
assert len(made["keys"]) == len(made["keys_base64"]) == 5 and len(set(made["keys"])) == 5
assert all(len(key) == 66 for key in made["keys"]), "32 bytes and a place, in hexadecimal"
refused(InvalidRequest, lambda: init(5, 3), "already initialized")
assert client.sys.is_initialized() and client.sys.is_sealed()
assert health().status_code == 503 and client.sys.read_health_status().status_code == 503
status = client.sys.read_seal_status()
assert (status["type"], status["t"], status["n"], status["progress"]) == ("shamir", 3, 5, 0)

client.token = made["root_token"]
refused(VaultDown, lambda: client.read("secret/data/a"), "Vault is sealed")
refused(VaultDown, client.sys.list_policies)
give = lambda key: client.sys.submit_unseal_key(key=key)
first = give(made["keys"][0])
assert first["sealed"] and first["progress"] == 1 and first["nonce"]
assert give(made["keys_base64"][0])["progress"] == 1, "the same share does not count twice"
second = give(made["keys_base64"][1])
assert second["progress"] == 2 and second["nonce"] == first["nonce"]
assert client.sys.submit_unseal_key(reset=True)["progress"] == 0
refused(InvalidRequest, lambda: give("no share"), "valid hex or base64")
refused(InvalidRequest, lambda: give("00" * 32), "33 bytes")
wrong = "11" * 32
give(made["keys"][0])
give(made["keys"][1])
refused(InvalidRequest, lambda: give(wrong + "07"), "do not open this store")
assert client.sys.read_seal_status()["progress"] == 0 and client.sys.is_sealed()
opened = client.sys.submit_unseal_keys(made["keys"][2:])
assert not opened["sealed"] and opened["progress"] == 0 and opened["cluster_id"]
assert give(made["keys"][0])["sealed"] is False
refused(InvalidRequest, lambda: client.sys.submit_unseal_key(reset=True), "vault is unsealed")
assert client.is_authenticated() and health()["sealed"] is False
kv = client.secrets.kv.v2
kv.create_or_update_secret("a", secret={"kept": "through a seal"})
child = client.auth.token.create(policies=["default"])["auth"]["client_token"]
refused(Forbidden, hvac.Client(url=address, token=child).sys.seal)
refused(Forbidden, hvac.Client(url=address).sys.seal)
assert not client.sys.is_sealed()

assert client.sys.seal().status_code == 204
assert client.sys.is_sealed()
refused(VaultDown, lambda: kv.read_secret_version("a"), "Vault is sealed")
for key in made["keys"][1:4]:
    give(key)
assert not client.sys.is_sealed()
found = kv.read_secret_version("a", raise_on_deleted_version=True)["data"]["data"]
assert found == {"kept": "through a seal"}
assert hvac.Client(url=address, token=child).is_authenticated()

# Other shares in place of these, for whoever may seal the server.
refused(Forbidden, hvac.Client(url=address, token=child).sys.read_rekey_progress)
refused(Forbidden, lambda: hvac.Client(url=address).sys.start_rekey(3, 2))
assert client.sys.read_rekey_progress()["started"] is False
begun = client.sys.start_rekey(secret_shares=3, secret_threshold=2)
assert begun["started"] and (begun["t"], begun["n"], begun["required"]) == (2, 3, 3)
refused(InvalidRequest, lambda: client.sys.start_rekey(3, 2), "already in progress")
assert client.sys.cancel_rekey().status_code == 204
assert client.sys.read_rekey_progress()["started"] is False
nonce = client.sys.start_rekey(secret_shares=3, secret_threshold=2)["nonce"]
old = made["keys"]
refused(InvalidRequest, lambda: client.sys.rekey(old[0], nonce="other"), "incorrect nonce")
assert client.sys.rekey(old[0], nonce=nonce)["progress"] == 1
assert client.sys.rekey(old[0], nonce=nonce)["progress"] == 1
client.sys.rekey(old[1], nonce=nonce)
refused(InvalidRequest, lambda: client.sys.rekey(wrong + "07", nonce=nonce), "do not open")
assert client.sys.read_rekey_progress()["progress"] == 0
done = client.sys.rekey_multi(old[:3], nonce=nonce)
assert done["complete"] and len(done["keys"]) == 3
assert client.sys.read_seal_status()["t"] == 2
client.sys.seal()
for key in old[:1]:
    give(key)
refused(InvalidRequest, lambda: give(old[1]), "do not open this store")
client.sys.submit_unseal_keys(done["keys"][1:])
assert not client.sys.is_sealed() and client.is_authenticated()
print("all checks passed")
