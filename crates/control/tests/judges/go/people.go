package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

func login(client *api.Client) error {
	stranger := as(client, "")
	if err := client.Sys().EnableAuthWithOptions("userpass",
		&api.EnableAuthOptions{Type: "userpass"}); err != nil {
		return err
	}
	at := client.Logical()
	if _, err := at.Write("auth/userpass/users/ada", map[string]any{
		"password": "some words", "token_policies": "default", "token_ttl": "1h",
	}); err != nil {
		return err
	}
	given := map[string]any{"password": "some words"}
	held, err := stranger.Logical().Write("auth/userpass/login/ada", given)
	if err != nil {
		return err
	}
	renewable, _ := held.TokenIsRenewable()
	ttl, _ := held.TokenTTL()
	meta, _ := held.TokenMetadata()
	_, wrong := stranger.Logical().Write("auth/userpass/login/ada", map[string]any{"password": "x"})
	if err := first(
		ensure(renewable && ttl == time.Hour && meta["username"] == "ada", "%+v", held.Auth),
		ensure(held.Auth.MFARequirement == nil && held.Auth.EntityID != "", "%+v", held.Auth),
		refused(wrong, 400, "invalid username or password"),
	); err != nil {
		return err
	}
	// `login TOKEN` looks it up by itself.
	self, err := as(client, held.Auth.ClientToken).Auth().Token().LookupSelf()
	if err != nil {
		return err
	}
	id, _ := self.TokenID()
	accessor, _ := self.TokenAccessor()
	policies, _ := self.TokenPolicies()
	uses, _ := self.TokenRemainingUses()
	_, bad := as(client, "hvs.none").Auth().Token().LookupSelf()
	if err := first(
		ensure(id == held.Auth.ClientToken && accessor == held.Auth.Accessor, "%v", self.Data),
		ensure(strings.Join(policies, ",") == "default" && uses == 0, "%v", self.Data),
		refused(bad, 403, "permission denied"),
	); err != nil {
		return err
	}
	// `login -wrap-ttl`, and then without it.
	stranger.SetWrappingLookupFunc(func(string, string) string { return "2m" })
	wrapped, err := stranger.Logical().Write("auth/userpass/login/ada", given)
	if err != nil {
		return err
	}
	if wrapped.WrapInfo == nil || wrapped.WrapInfo.WrappedAccessor == "" || wrapped.Auth != nil {
		return fmt.Errorf("wrapped as %+v", wrapped)
	}
	inside, err := as(client, wrapped.WrapInfo.Token).Logical().Unwrap("")
	if err != nil || inside.Auth.Accessor != wrapped.WrapInfo.WrappedAccessor {
		return fmt.Errorf("inside is %+v: %v", inside, err)
	}

	if err := client.Sys().EnableAuthWithOptions("approle",
		&api.EnableAuthOptions{Type: "approle"}); err != nil {
		return err
	}
	role := map[string]any{"token_policies": "default"}
	if _, err := at.Write("auth/approle/role/web", role); err != nil {
		return err
	}
	name, err := at.Read("auth/approle/role/web/role-id")
	if err != nil {
		return err
	}
	// `write -f`: a body that says nothing.
	secret, err := at.Write("auth/approle/role/web/secret-id", nil)
	if err != nil {
		return err
	}
	held, err = as(client, "").Logical().Write("auth/approle/login", map[string]any{
		"role_id": name.Data["role_id"], "secret_id": secret.Data["secret_id"],
	})
	return first(err, ensure(err == nil && held.Auth.ClientToken != "", "%+v", held))
}

func tokens(client *api.Client) error {
	at := client.Auth().Token()
	renewable := true
	made, err := at.Create(&api.TokenCreateRequest{
		Policies: []string{"default"}, TTL: "1h", ExplicitMaxTTL: "3h", DisplayName: "of the judge",
		NumUses: 9, Renewable: &renewable, Metadata: map[string]string{"a": "b"},
		EntityAlias: "", Type: "service",
	})
	if err != nil {
		return err
	}
	token, accessor := made.Auth.ClientToken, made.Auth.Accessor
	looked, err := at.Lookup(token)
	if err != nil {
		return err
	}
	byAccessor, err := at.LookupAccessor(accessor)
	if err != nil {
		return err
	}
	renewed, err := at.Renew(token, 7200)
	if err != nil {
		return err
	}
	other, err := at.RenewAccessor(accessor, 3600)
	if err != nil {
		return err
	}
	self, err := at.RenewTokenAsSelf(token, 1800)
	if err != nil {
		return err
	}
	if err := first(
		ensure(number(looked.Data["num_uses"]) == "9", "%v", looked.Data),
		ensure(looked.Data["display_name"] == "token-of-the-judge", "%v", looked.Data),
		ensure(byAccessor.Data["id"] == "", "%v", byAccessor.Data),
		ensure(renewed.Auth.LeaseDuration == 7200, "%+v", renewed.Auth),
		ensure(other.Auth.LeaseDuration == 3600, "%+v", other.Auth),
		ensure(self.Auth.LeaseDuration == 1800, "%+v", self.Auth),
		at.RevokeAccessor(accessor),
	); err != nil {
		return err
	}
	_, gone := at.Lookup(token)
	if err := refused(gone, 403, "bad token"); err != nil {
		return err
	}
	role := map[string]any{"allowed_policies": "default", "orphan": true, "renewable": true}
	if _, err := client.Logical().Write("auth/token/roles/web", role); err != nil {
		return err
	}
	made, err = at.CreateWithRole(&api.TokenCreateRequest{}, "web")
	if err != nil || !made.Auth.Orphan {
		return fmt.Errorf("made by its role: %+v, %v", made, err)
	}
	if err := at.RevokeTree(made.Auth.ClientToken); err != nil {
		return err
	}
	made, err = at.CreateOrphan(&api.TokenCreateRequest{TTL: "1h"})
	if err != nil {
		return err
	}
	if err := at.RevokeOrphan(made.Auth.ClientToken); err != nil {
		return err
	}
	made, err = at.Create(&api.TokenCreateRequest{Policies: []string{"default"}})
	if err != nil {
		return err
	}
	if err := as(client, made.Auth.ClientToken).Auth().Token().RevokeSelf(""); err != nil {
		return err
	}
	listed, err := client.Logical().List("auth/token/accessors")
	return first(err, ensure(err == nil && listed != nil, "no accessor is listed"))
}

func capable(client *api.Client) error {
	const text = `path "a/b" { capabilities = ["update", "read", "sudo"] }`
	if err := client.Sys().PutPolicy("some", text); err != nil {
		return err
	}
	made, err := client.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"some"}})
	if err != nil {
		return err
	}
	byToken, err := client.Sys().Capabilities(made.Auth.ClientToken, "a/b")
	if err != nil {
		return err
	}
	self, err := as(client, made.Auth.ClientToken).Sys().CapabilitiesSelf("a/c")
	if err != nil {
		return err
	}
	root, err := client.Sys().CapabilitiesSelf("a/b")
	return first(
		err,
		ensure(strings.Join(byToken, ",") == "read,sudo,update", "%v", byToken),
		ensure(strings.Join(self, ",") == "deny", "%v", self),
		ensure(strings.Join(root, ",") == "root", "%v", root),
	)
}

func unwrap(client *api.Client) error {
	asking := as(client, client.Token())
	asking.SetWrappingLookupFunc(func(string, string) string { return "60" })
	wrapped, err := asking.Logical().Write("sys/wrapping/wrap", map[string]any{"word": "x"})
	if err != nil {
		return err
	}
	told, err := as(client, "").Logical().Write("sys/wrapping/lookup",
		map[string]any{"token": wrapped.WrapInfo.Token})
	if err != nil {
		return err
	}
	again, err := client.Logical().Write("sys/wrapping/rewrap",
		map[string]any{"token": wrapped.WrapInfo.Token})
	if err != nil {
		return err
	}
	inside, err := client.Logical().Unwrap(again.WrapInfo.Token)
	if err != nil {
		return err
	}
	_, spent := client.Logical().Unwrap(wrapped.WrapInfo.Token)
	return first(
		ensure(number(told.Data["creation_ttl"]) == "60", "%v", told.Data),
		ensure(inside.Data["word"] == "x", "%v", inside.Data),
		refused(spent, 400, "wrapping token is not valid or does not exist"),
	)
}

// A key as OpenSSH writes it.
func publicKey() (string, error) {
	key, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	blob := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), key...)
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob), nil
}

func shell(client *api.Client) error {
	at := client.Logical()
	generate := map[string]any{"generate_signing_key": true, "key_type": "ed25519"}
	if _, err := at.Write("ssh/config/ca", generate); err != nil {
		return err
	}
	if _, err := at.Write("ssh/roles/signed", map[string]any{
		"key_type": "ca", "allow_user_certificates": true, "allowed_users": "*", "ttl": "5m",
		"allowed_extensions": "permit-X11-forwarding,permit-agent-forwarding," +
			"permit-port-forwarding,permit-pty,permit-user-rc",
	}); err != nil {
		return err
	}
	key, err := publicKey()
	if err != nil {
		return err
	}
	// What `ssh -mode=ca` asks for.
	signed, err := client.SSHWithMountPoint("ssh").SignKey("signed", map[string]any{
		"public_key": key, "valid_principals": "deploy", "cert_type": "user",
		"extensions": map[string]string{
			"permit-X11-forwarding": "", "permit-agent-forwarding": "",
			"permit-port-forwarding": "", "permit-pty": "", "permit-user-rc": "",
		},
	})
	if err != nil {
		return err
	}
	host, err := at.Read("ssh/config/ca")
	if err != nil {
		return err
	}
	public, err := at.ReadRaw("ssh/public_key")
	if err != nil {
		return err
	}
	public.Body.Close()
	line, _ := signed.Data["signed_key"].(string)
	if err := first(
		ensure(strings.HasPrefix(line, "ssh-ed25519-cert-v01@openssh.com "), "signed %q", line),
		ensure(host.Data["public_key"] != nil, "%v", host.Data),
	); err != nil {
		return err
	}
	// What `ssh -mode=otp` asks for, and the end of its lease afterwards.
	given, err := client.SSHWithMountPoint("ssh").Credential("otp", map[string]any{
		"username": "web", "ip": "10.1.2.3",
	})
	if err != nil {
		return err
	}
	if err := first(
		ensure(given.Data["key_type"] == "otp" && given.Data["username"] == "web", "%v", given.Data),
		ensure(given.Data["ip"] == "10.1.2.3" && number(given.Data["port"]) == "22", "%v", given.Data),
		ensure(given.LeaseID != "", "no lease"),
		client.Sys().Revoke(given.LeaseID),
	); err != nil {
		return err
	}
	_, spent := at.Write("ssh/verify", map[string]any{"otp": given.Data["key"]})
	return refused(spent, 400, "OTP not found")
}

// Also mounts `ssh`, whose passwords are leased.
func leased(client *api.Client) error {
	if err := client.Sys().Mount("ssh", &api.MountInput{Type: "ssh"}); err != nil {
		return err
	}
	if _, err := client.Logical().Write("ssh/roles/otp", map[string]any{
		"key_type": "otp", "default_user": "web", "cidr_list": "10.0.0.0/8",
	}); err != nil {
		return err
	}
	give := func() (string, error) {
		given, err := client.Logical().Write("ssh/creds/otp", map[string]any{"ip": "10.1.2.3"})
		if err != nil {
			return "", err
		}
		return given.LeaseID, nil
	}
	id, err := give()
	if err != nil {
		return err
	}
	told, err := client.Sys().Lookup(id)
	if err != nil {
		return err
	}
	_, renewed := client.Sys().Renew(id, 60)
	if err := first(
		ensure(told.Data["id"] == id && told.Data["renewable"] == false, "%v", told.Data),
		ensure(told.Data["expire_time"] != nil && told.Data["ttl"] != nil, "%v", told.Data),
		refused(renewed, 400, "lease is not renewable"),
	); err != nil {
		return err
	}
	// `lease revoke`: one, below a prefix, and by force; at once and later.
	for _, how := range []api.RevokeOptions{
		{Sync: true}, {}, {Prefix: true, Sync: true}, {Force: true, Prefix: true},
	} {
		id, err := give()
		if err != nil {
			return err
		}
		how.LeaseID = id
		if how.Prefix {
			how.LeaseID = "ssh/creds/otp"
		}
		if err := client.Sys().RevokeWithOptions(&how); err != nil {
			return err
		}
		late := time.Now().Add(20 * time.Second)
		for {
			_, err := client.Sys().Lookup(id)
			if err != nil {
				if err := refused(err, 400, "invalid lease"); err != nil {
					return err
				}
				break
			}
			if how.Sync || time.Now().After(late) {
				return fmt.Errorf("a lease outlived its end by %+v", how)
			}
		}
	}
	// `lease lookup -prefix`: none is left.
	left, err := client.Logical().List("sys/leases/lookup/ssh/creds/otp")
	return first(err, ensure(left == nil, "left are %v", left))
}
