//go:build !openbao

package main

import (
	"strings"

	"github.com/hashicorp/vault/api"
)

// What Vault's client has alone.
func only(*round) []step {
	return []step{
		{"one mount and one method", func(client *api.Client) error {
			mount, err := client.Sys().GetMount("ssh")
			if err != nil {
				return err
			}
			method, err := client.Sys().GetAuth("userpass")
			if err != nil {
				return err
			}
			_, none := client.Sys().GetMount("nowhere")
			return first(
				ensure(mount.Type == "ssh" && mount.Accessor != "", "%+v", mount),
				ensure(method.Type == "userpass" && method.Accessor != "", "%+v", method),
				refused(none, 400, "No secret engine mount at nowhere/"),
			)
		}},
		{"capabilities by accessor", func(client *api.Client) error {
			made, err := client.Auth().Token().Create(&api.TokenCreateRequest{
				Policies: []string{"some"},
			})
			if err != nil {
				return err
			}
			found, err := client.Sys().CapabilitiesAccessor(made.Auth.Accessor, "a/b")
			return first(err, ensure(strings.Join(found, ",") == "read,sudo,update", "%v", found))
		}},
	}
}
