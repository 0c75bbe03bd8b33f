package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"
)

func (r *round) begin(client *api.Client) error {
	fresh, err := client.Sys().SealStatus()
	if err != nil {
		return err
	}
	begun, err := client.Sys().InitStatus()
	if err != nil {
		return err
	}
	made, err := client.Sys().Init(&api.InitRequest{SecretShares: 3, SecretThreshold: 2})
	if err != nil {
		return err
	}
	_, again := client.Sys().Init(&api.InitRequest{SecretShares: 3, SecretThreshold: 2})
	r.shares = made.KeysB64
	if err := first(
		ensure(!fresh.Initialized && fresh.Sealed && fresh.Type == "shamir", "status %+v", fresh),
		ensure(!begun, "it was begun before"),
		ensure(len(made.Keys) == 3 && made.RootToken != "", "made %d shares", len(made.Keys)),
		refused(again, 400, "Vault is already initialized"),
	); err != nil {
		return err
	}
	if err := r.unseal(client); err != nil {
		return err
	}
	client.SetToken(made.RootToken)
	if err := client.Sys().Seal(); err != nil {
		return err
	}
	if err := sealed(client); err != nil {
		return err
	}
	if err := r.unseal(client); err != nil {
		return err
	}
	leader, err := client.Sys().Leader()
	if err != nil {
		return err
	}
	status, err := client.Sys().SealStatus()
	if err != nil {
		return err
	}
	health, err := client.Sys().Health()
	if err != nil {
		return err
	}
	return first(
		ensure(!leader.HAEnabled, "leader %+v", leader),
		ensure(status.ClusterName != "" && status.ClusterID != "", "status %+v", status),
		ensure(status.Version != "" && status.StorageType == "inmem", "status %+v", status),
		ensure(health.Initialized && !health.Sealed && !health.Standby, "health %+v", health),
	)
}

// As `status` sees it, which ends with 2 then.
func sealed(client *api.Client) error {
	status, err := client.Sys().SealStatus()
	if err != nil {
		return err
	}
	// `status` takes either: no leader, or that the server is sealed.
	if _, err := client.Sys().Leader(); err != nil && !strings.Contains(err.Error(), "Vault is sealed") {
		return err
	}
	health, err := client.Sys().Health()
	if err != nil {
		return err
	}
	quick, err := client.Clone()
	if err != nil {
		return err
	}
	quick.SetMaxRetries(0)
	quick.SetToken(client.Token())
	_, lookup := quick.Auth().Token().LookupSelf()
	return first(
		ensure(status.Sealed && status.Initialized && status.T == 2 && status.N == 3, "%+v", status),
		ensure(health.Sealed, "health %+v", health),
		refused(lookup, 503, "Vault is sealed"),
	)
}

func (r *round) unseal(client *api.Client) error {
	one, err := client.Sys().Unseal(r.shares[0])
	if err != nil {
		return err
	}
	if one.Progress != 1 || one.Nonce == "" || !one.Sealed {
		return fmt.Errorf("after one share: %+v", one)
	}
	reset, err := client.Sys().ResetUnsealProcess()
	if err != nil || reset.Progress != 0 {
		return fmt.Errorf("after a reset: %+v, %v", reset, err)
	}
	for at, share := range r.shares[1:] {
		told, err := client.Sys().UnsealWithOptions(&api.UnsealOpts{Key: share})
		if err != nil {
			return err
		}
		if told.Sealed != (at == 0) {
			return fmt.Errorf("after share %d of 2: %+v", at+1, told)
		}
	}
	return nil
}

func (r *round) end(client *api.Client) error {
	if err := client.Sys().Seal(); err != nil {
		return err
	}
	return sealed(client)
}

func rotate(client *api.Client) error {
	before, err := client.Sys().KeyStatus()
	if err != nil {
		return err
	}
	if err := client.Sys().Rotate(); err != nil {
		return err
	}
	after, err := client.Sys().KeyStatus()
	if err != nil {
		return err
	}
	return first(
		ensure(after.Term == before.Term+1, "term %d, then %d", before.Term, after.Term),
		ensure(!after.InstallTime.Before(before.InstallTime), "%v, then %v", before, after),
	)
}

// What takes no token in Vault takes one here, unless the server is to be as open.
func (r *round) keyless(client *api.Client, call func(*api.Client) error) (*api.Client, error) {
	if r.strict {
		stranger := as(client, "")
		return client, refused(call(stranger), 403, "permission denied")
	}
	return as(client, ""), nil
}

// Ends what was begun. Who shows no token and knows no nonce cannot end what others began.
func (r *round) cancel(client *api.Client, call func(*api.Client) error) error {
	const why = "only who knows its nonce, or has a token that may, can cancel this"
	if !r.strict {
		if err := refused(call(as(client, "")), 400, why); err != nil {
			return err
		}
	}
	return call(client)
}

func (r *round) rekey(root *api.Client) error {
	client, err := r.keyless(root, func(stranger *api.Client) error {
		_, err := stranger.Sys().RekeyInit(&api.RekeyInitRequest{SecretShares: 3, SecretThreshold: 2})
		return err
	})
	if err != nil {
		return err
	}
	begin := &api.RekeyInitRequest{SecretShares: 3, SecretThreshold: 2, RequireVerification: true}
	if _, err := client.Sys().RekeyInit(begin); err != nil {
		return err
	}
	cancel := func(by *api.Client) error { return by.Sys().RekeyCancel() }
	if err := r.cancel(root, cancel); err != nil {
		return err
	}
	none, err := client.Sys().RekeyStatus()
	if err != nil {
		return err
	}
	begun, err := client.Sys().RekeyInit(begin)
	if err != nil {
		return err
	}
	_, wrong := client.Sys().RekeyUpdate(r.shares[0], "00000000-0000-0000-0000-000000000000")
	if err := first(
		ensure(!none.Started, "after it was cancelled: %+v", none),
		ensure(begun.Started && begun.Required == 2 && begun.VerificationRequired, "%+v", begun),
		refused(wrong, 400, "incorrect nonce supplied"),
	); err != nil {
		return err
	}
	part, err := client.Sys().RekeyUpdate(r.shares[0], begun.Nonce)
	if err != nil {
		return err
	}
	status, err := client.Sys().RekeyStatus()
	if err != nil {
		return err
	}
	done, err := client.Sys().RekeyUpdate(r.shares[1], begun.Nonce)
	if err != nil {
		return err
	}
	if err := first(
		ensure(!part.Complete && status.Progress == 1, "%+v, %+v", part, status),
		ensure(done.Complete && len(done.KeysB64) == 3, "%v, %d keys", done.Complete, len(done.Keys)),
		ensure(done.VerificationRequired && done.VerificationNonce != "", "no verification"),
	); err != nil {
		return err
	}
	shown, err := client.Sys().RekeyVerificationUpdate(done.KeysB64[2], done.VerificationNonce)
	if err != nil || shown.Complete {
		return fmt.Errorf("after one new share: %+v, %v", shown, err)
	}
	verifying, err := client.Sys().RekeyVerificationStatus()
	if err != nil || verifying.Progress != 1 || verifying.T != 2 {
		return fmt.Errorf("after one new share: %+v, %v", verifying, err)
	}
	shown, err = client.Sys().RekeyVerificationUpdate(done.KeysB64[0], done.VerificationNonce)
	if err != nil || !shown.Complete {
		return fmt.Errorf("after two new shares: %+v, %v", shown, err)
	}
	r.shares = done.KeysB64
	_, backup := client.Sys().RekeyInit(&api.RekeyInitRequest{
		SecretShares: 1, SecretThreshold: 1, PGPKeys: []string{"bm9uZQ=="}, Backup: true,
	})
	return ensure(backup != nil, "shares were sealed with a key that is none")
}

func (r *round) generateRoot(client *api.Client) error {
	asking, err := r.keyless(client, func(stranger *api.Client) error {
		_, err := stranger.Sys().GenerateRootStatus()
		return err
	})
	if err != nil {
		return err
	}
	before, err := asking.Sys().GenerateRootStatus()
	if err != nil {
		return err
	}
	// With `-generate-otp` the program draws one of the length that it is told.
	otp := strings.Repeat("k", before.OTPLength)
	if _, err := asking.Sys().GenerateRootInit(otp, ""); err != nil {
		return err
	}
	cancel := func(by *api.Client) error { return by.Sys().GenerateRootCancel() }
	if err := r.cancel(client, cancel); err != nil {
		return err
	}
	begun, err := asking.Sys().GenerateRootInit("", "")
	if err != nil {
		return err
	}
	if begun.OTP == "" || !begun.Started || begun.Required != 2 {
		return fmt.Errorf("begun as %+v", begun)
	}
	part, err := asking.Sys().GenerateRootUpdate(r.shares[0], begun.Nonce)
	if err != nil || part.Complete || part.Progress != 1 {
		return fmt.Errorf("after one share: %+v, %v", part, err)
	}
	done, err := asking.Sys().GenerateRootUpdate(r.shares[2], begun.Nonce)
	if err != nil || !done.Complete {
		return fmt.Errorf("after two shares: %+v, %v", done, err)
	}
	token, err := base64.RawStdEncoding.DecodeString(done.EncodedToken)
	if err != nil || len(token) != len(begun.OTP) || done.EncodedRootToken != done.EncodedToken {
		return fmt.Errorf("encoded as %q: %v", done.EncodedToken, err)
	}
	for at := range token {
		token[at] ^= begun.OTP[at]
	}
	root := as(client, string(token))
	self, err := root.Auth().Token().LookupSelf()
	if err != nil {
		return err
	}
	policies, err := self.TokenPolicies()
	if err != nil || strings.Join(policies, ",") != "root" {
		return fmt.Errorf("the token that was made has %v: %v", policies, err)
	}
	return root.Auth().Token().RevokeSelf("")
}

// There is one server: what asks for others is refused, or finds none.
func cluster(client *api.Client) error {
	if _, err := client.Sys().HAStatus(); err != nil {
		return err
	}
	raft, err := client.Logical().Read("sys/storage/raft/configuration")
	return first(
		refused(client.Sys().StepDown(), 404, "unsupported path"),
		ensure(raft == nil && err == nil, "peers are %v, %v", raft, err),
	)
}

func (r *round) audit(client *api.Client) error {
	file := filepath.Join(r.folder, "audit-by-api.log")
	err := client.Sys().EnableAuditWithOptions("more", &api.EnableAuditOptions{
		Type: "file", Description: "of the judge", Options: map[string]string{"file_path": file},
	})
	if r.strict {
		if err := refused(err, 400, "audit"); err != nil {
			return err
		}
		_, err := client.Sys().ListAudit()
		return err
	}
	if err != nil {
		return err
	}
	listed, err := client.Sys().ListAudit()
	if err != nil {
		return err
	}
	one := listed["more/"]
	if one == nil || one.Type != "file" || one.Description != "of the judge" ||
		one.Options["file_path"] != file {
		return fmt.Errorf("listed %+v", one)
	}
	hash, err := client.Sys().AuditHash("more", "word")
	if err != nil || !strings.HasPrefix(hash, "hmac-sha256:") {
		return fmt.Errorf("hashed as %q: %v", hash, err)
	}
	if _, err := client.Logical().Write("cubbyhole/audited", map[string]any{"a": "word"}); err != nil {
		return err
	}
	log, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), "cubbyhole/audited") || !strings.Contains(string(log), hash) {
		return fmt.Errorf("the log holds neither the request nor its hash")
	}
	if err := client.Sys().DisableAudit("more"); err != nil {
		return err
	}
	listed, err = client.Sys().ListAudit()
	return first(err, ensure(listed["more/"] == nil, "a device that was disabled is listed"))
}
