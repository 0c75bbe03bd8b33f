"""Believes what the server signs only as far as another implementation of the standards does."""

import json
import sys
import urllib.parse

import hvac
import requests
from jwcrypto import jwk, jwt

address, root = sys.argv[1:]
client = hvac.Client(url=address, token=root)
identity = client.secrets.identity

client.sys.enable_auth_method("userpass")
client.sys.create_or_update_policy("oidc", 'path "identity/*" { capabilities = ["read", "update"] }')
client.auth.userpass.create_or_update_user("ada", "right", policies=["oidc"])
login = hvac.Client(url=address).auth.userpass.login("Ada", "right")["auth"]
entity, ada = login["entity_id"], hvac.Client(url=address, token=login["client_token"])
identity.update_entity(entity, metadata={"team": "blue"})

issuer = "https://vault.test:8200"
identity.configure_tokens_backend(issuer=issuer)


def published(url):
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    return answer.json()


def verified(token, keys, audience, issued_by):
    """Checks signature, issuer, audience and time; returns the claims."""
    expected = {"iss": issued_by, "aud": audience, "exp": None, "iat": None}
    return json.loads(jwt.JWT(jwt=token, key=keys, check_claims=expected).claims)


well_known = published(f"{address}/v1/identity/oidc/.well-known/openid-configuration")
assert well_known["issuer"] == issuer + "/v1/identity/oidc"
assert well_known["jwks_uri"] == issuer + "/v1/identity/oidc/.well-known/keys"
algorithms = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"]
assert well_known["id_token_signing_alg_values_supported"] == algorithms
template = '{"team": {{identity.entity.metadata.team}}, "nbf": {{time.now}}}'
old = {}
for algorithm in algorithms:
    name = algorithm.lower()
    identity.create_named_key(name, algorithm=algorithm, allowed_client_ids=["*"])
    identity.create_or_update_role(name, key=name, template=template)
    signed = ada.secrets.identity.generate_signed_id_token(name)["data"]
    old[algorithm] = signed
    document = json.dumps(published(f"{address}/v1/identity/oidc/.well-known/keys"))
    keys = jwk.JWKSet.from_json(document)
    claims = verified(signed["token"], keys, signed["client_id"], well_known["issuer"])
    assert claims["sub"] == entity and claims["team"] == "blue", claims
    header, payload, signature = signed["token"].split(".")
    other = old[algorithms[0]]["token"].split(".")[1][:-2] + "AA"
    try:
        verified(f"{header}.{other}.{signature}", keys, signed["client_id"], well_known["issuer"])
    except Exception:
        pass
    else:
        raise AssertionError("a changed token was believed")

# After a rotation the next key signs, and what the old one signed is still believed.
# (hvac's own rotate_named_key asks for no rotation: it writes the key.)
for algorithm in algorithms:
    client.adapter.post(f"/v1/identity/oidc/key/{algorithm.lower()}/rotate", json={})
document = json.dumps(published(f"{address}/v1/identity/oidc/.well-known/keys"))
keys = jwk.JWKSet.from_json(document)
for algorithm, signed in old.items():
    verified(signed["token"], keys, signed["client_id"], well_known["issuer"])
    new = ada.secrets.identity.generate_signed_id_token(algorithm.lower())["data"]["token"]
    verified(new, keys, signed["client_id"], well_known["issuer"])
    assert new.split(".")[0] != signed["token"].split(".")[0]

# Another program logs Ada in: the code by her browser, the tokens by its own server.
provider = f"{address}/v1/identity/oidc/provider/default"
api = lambda path, data: client.adapter.post(f"/v1/identity/oidc/{path}", json=data)
api("scope/team", {"template": '{"team": {{identity.entity.metadata.team}}}'})
api("provider/default", {"scopes_supported": ["team"]})
callback = "https://app.test/cb"
api(
    "client/app",
    {"redirect_uris": [callback], "assignments": ["allow_all"], "key": "es256"},
)
app = client.read("identity/oidc/client/app")["data"]
query = {
    "client_id": app["client_id"],
    "redirect_uri": callback,
    "response_type": "code",
    "scope": "openid team",
    "state": "s",
    "nonce": "n",
}
found = published(f"{provider}/.well-known/openid-configuration")
assert found["issuer"] == issuer + "/v1/identity/oidc/provider/default"


def code():
    url = f"{provider}/authorize?{urllib.parse.urlencode(query)}"
    answer = requests.get(url, headers={"X-Vault-Token": ada.token}, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "s"
    return answer.json()["code"]


def redeemed(given, secret):
    form = {"grant_type": "authorization_code", "code": given, "redirect_uri": callback}
    credentials = (app["client_id"], secret)
    return requests.post(f"{provider}/token", data=form, auth=credentials, timeout=10)


wrong = redeemed(code(), "guess")
assert wrong.status_code == 401 and wrong.json()["error"] == "invalid_client", wrong.text
one = code()
tokens = redeemed(one, app["client_secret"])
assert tokens.status_code == 200 and tokens.headers["cache-control"] == "no-store", tokens.text
again = redeemed(one, app["client_secret"])
assert again.status_code == 400 and again.json()["error"] == "invalid_grant", again.text
tokens = tokens.json()
keys = jwk.JWKSet.from_json(json.dumps(published(f"{provider}/.well-known/keys")))
claims = verified(tokens["id_token"], keys, app["client_id"], found["issuer"])
assert (claims["sub"], claims["nonce"], claims["team"]) == (entity, "n", "blue")
bearer = {"Authorization": "Bearer " + tokens["access_token"]}
told = requests.get(f"{provider}/userinfo", headers=bearer, timeout=10)
assert told.json() == {"sub": entity, "team": "blue"}, told.text
nobody = requests.get(f"{provider}/userinfo", timeout=10)
assert nobody.status_code == 401 and nobody.json()["error"] == "invalid_token"
print("all checks passed")
