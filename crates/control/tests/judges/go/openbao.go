//go:build openbao

package main

import (
	"fmt"

	"github.com/hashicorp/vault/api"
)

// What OpenBao's client has alone.
func only(r *round) []step {
	return []step{
		{"one mount", func(client *api.Client) error {
			mount, err := client.Sys().MountInfo("ssh")
			if err != nil {
				return err
			}
			return ensure(mount.Type == "ssh" && mount.Accessor != "", "%+v", mount)
		}},
		{"operator rotate-keys", r.rotateKeys},
	}
}

// New shares, with a token, by the paths that OpenBao has for it.
func (r *round) rotateKeys(client *api.Client) error {
	if err := client.Sys().RotateKeyring(); err != nil {
		return err
	}
	asked := &api.RotateInitRequest{SecretShares: 3, SecretThreshold: 2}
	if _, err := client.Sys().RotateRootInit(asked); err != nil {
		return err
	}
	if err := client.Sys().RotateRootCancel(); err != nil {
		return err
	}
	begun, err := client.Sys().RotateRootInit(asked)
	if err != nil || !begun.Started || begun.Required != 2 {
		return fmt.Errorf("begun as %+v: %v", begun, err)
	}
	part, err := client.Sys().RotateRootUpdate(r.shares[0], begun.Nonce)
	if err != nil || part.Complete {
		return fmt.Errorf("after one share: %+v, %v", part, err)
	}
	status, err := client.Sys().RotateRootStatus()
	if err != nil || status.Progress != 1 {
		return fmt.Errorf("after one share: %+v, %v", status, err)
	}
	done, err := client.Sys().RotateRootUpdate(r.shares[1], begun.Nonce)
	if err != nil || !done.Complete || len(done.KeysB64) != 3 {
		return fmt.Errorf("after two shares: %v", err)
	}
	r.shares = done.KeysB64
	// The new ones open it.
	if err := client.Sys().Seal(); err != nil {
		return err
	}
	return r.unseal(client)
}
