"""Logs people in at a provider that others wrote, as hvac asks for it and as a browser would."""

import re
import sys
import urllib.parse

import hvac
import requests

address, root, issuer = sys.argv[1:]
client = hvac.Client(url=address, token=root)
back = "http://localhost:8250/oidc/callback"

client.sys.enable_auth_method("oidc")
client.auth.oidc.configure(
    oidc_discovery_url=issuer,
    oidc_client_id="bastide",
    oidc_client_secret="a secret: with / and %41",
    default_role="people",
)
assert "secret" not in client.auth.oidc.read_config()["data"].get("oidc_client_secret", "")
client.auth.oidc.create_role(
    "people",
    user_claim="sub",
    allowed_redirect_uris=[back],
    oidc_scopes=["team"],
    groups_claim="groups",
    claim_mappings={"email": "email"},
    token_policies=["people"],
)


def begun(**more):
    """An address at the provider, as a stranger gets it."""
    data = {"role": "people", "redirect_uri": back, **more}
    answer = requests.post(f"{address}/v1/auth/oidc/oidc/auth_url", json=data, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["auth_url"]


def logged_in(url, name):
    """What a browser brings back in which this person logged in at the provider."""
    browser = requests.Session()
    answer = browser.get(url, allow_redirects=False, timeout=10)
    for _ in range(12):
        place = answer.headers.get("location")
        if place and place.startswith(back):
            return dict(urllib.parse.parse_qsl(urllib.parse.urlparse(place).query))
        if place:
            place = urllib.parse.urljoin(answer.url, place)
            answer = browser.get(place, allow_redirects=False, timeout=10)
            continue
        assert answer.status_code == 200, answer.text
        action = re.search(r'action="([^"]+)"', answer.text).group(1)
        prompt = re.search(r'name="prompt" value="([^"]+)"', answer.text).group(1)
        form = {"prompt": prompt, "login": name, "password": "any"}
        action = urllib.parse.urljoin(answer.url, action)
        answer = browser.post(action, data=form, allow_redirects=False, timeout=10)
    raise AssertionError("the provider never sends the browser back")


def ended(**fields):
    return requests.get(f"{address}/v1/auth/oidc/oidc/callback", params=fields, timeout=10)


# hvac's own two calls.
url = client.auth.oidc.oidc_authorization_url_request("people", back)["data"]["auth_url"]
assert url.startswith(f"{issuer}/auth?client_id=bastide&"), url
brought = logged_in(url, "ada")
auth = client.auth.oidc.oidc_callback(brought["state"], "unused", brought["code"])["auth"]
assert auth["policies"] == ["default", "people"], auth
# oidc-provider tells of groups and mail at its user info alone, not in its ID token.
assert auth["metadata"] == {"role": "people", "email": "ada@id.example"}, auth
name = hvac.Client(url=address, token=auth["client_token"]).auth.token.lookup_self()["data"]
assert name["display_name"] == "oidc-ada", name

# State and code are good once; the provider says so of the code, too.
again = ended(**brought)
assert again.status_code == 400 and "Expired or missing OAuth state" in again.text, again.text

# With what the provider says of itself (RFC 9207), and what the client said when it began.
brought = logged_in(begun(client_nonce="mine"), "bob")
assert brought["iss"] == issuer
for wrong in ({"client_nonce": "theirs"}, {"client_nonce": "mine", "iss": "https://evil.example"}):
    refused = ended(**{**brought, **wrong})
    assert refused.status_code == 400, refused.text
good = ended(**brought, client_nonce="mine")
assert good.status_code == 200, good.text

# By a form, as browsers send it that were told to post.
brought = logged_in(begun(), "bob")
good = requests.post(f"{address}/v1/auth/oidc/oidc/callback", data=brought, timeout=10)
assert good.status_code == 200, good.text

# A code of another's login, put into one's own: the provider knows PKCE.
mine, theirs = logged_in(begun(), "eve"), logged_in(begun(), "ada")
mixed = ended(state=mine["state"], code=theirs["code"])
assert mixed.status_code == 400 and "invalid_grant" in mixed.text, mixed.text

# A person may be known by what only user info tells.
client.auth.oidc.create_role(
    "people", user_claim="email", allowed_redirect_uris=[back], oidc_scopes=["team"],
    bound_claims={"groups": ["ops"]},
)
assert ended(**logged_in(begun(), "carol")).status_code == 200
client.auth.oidc.create_role(
    "people", user_claim="email", allowed_redirect_uris=[back], oidc_scopes=["team"],
    bound_claims={"groups": ["admins"]},
)
refused = ended(**logged_in(begun(), "carol"))
assert refused.status_code == 400 and "does not match" in refused.text, refused.text
print("all checks passed")
