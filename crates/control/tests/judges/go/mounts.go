package main

import (
	"fmt"
	"slices"

	"github.com/hashicorp/vault/api"
)

func secrets(client *api.Client) error {
	at := client.Sys()
	asked := &api.MountInput{
		Type: "kv", Description: "of the judge", Options: map[string]string{"version": "1"},
		Config: api.MountConfigInput{DefaultLeaseTTL: "1h", MaxLeaseTTL: "2h"},
	}
	if err := at.Mount("words", asked); err != nil {
		return err
	}
	again := at.Mount("words", asked)
	listed, err := at.ListMounts()
	if err != nil {
		return err
	}
	one := listed["words/"]
	if err := first(
		refused(again, 400, "path is already in use at words/"),
		ensure(one != nil && one.Type == "kv" && one.Options["version"] == "1", "%+v", one),
		ensure(one.Config.DefaultLeaseTTL == 3600 && one.Config.MaxLeaseTTL == 7200, "%+v", one),
		ensure(one.Accessor != "" && one.UUID != "" && one.Description == "of the judge", "%+v", one),
	); err != nil {
		return err
	}
	text := "tuned"
	tuned := api.MountConfigInput{
		DefaultLeaseTTL: "30m", Description: &text, ListingVisibility: "unauth",
		AuditNonHMACRequestKeys: []string{"n"},
	}
	if err := at.TuneMount("words", tuned); err != nil {
		return err
	}
	config, err := at.MountConfig("words")
	if err != nil {
		return err
	}
	if err := first(
		ensure(config.DefaultLeaseTTL == 1800 && config.ListingVisibility == "unauth", "%+v", config),
		ensure(slices.Equal(config.AuditNonHMACRequestKeys, []string{"n"}), "%+v", config),
	); err != nil {
		return err
	}
	// What shows itself to who has no token: the list that a person may choose from.
	shown, err := as(client, "").Logical().Read("sys/internal/ui/mounts")
	if err != nil {
		return err
	}
	engines, _ := shown.Data["secret"].(map[string]any)
	if engines["words/"] == nil || engines["sys/"] != nil {
		return fmt.Errorf("shown to a stranger: %v", shown.Data)
	}
	if err := at.Remount("words", "moved"); err != nil {
		return err
	}
	if err := at.Unmount("moved"); err != nil {
		return err
	}
	listed, err = at.ListMounts()
	return first(err, ensure(listed["moved/"] == nil && listed["sys/"] != nil, "%v", listed))
}

func methods(client *api.Client) error {
	at := client.Sys()
	err := at.EnableAuthWithOptions("people", &api.EnableAuthOptions{
		Type: "userpass", Description: "whom we know",
		Config: api.MountConfigInput{DefaultLeaseTTL: "1h", TokenType: "default-service"},
	})
	if err != nil {
		return err
	}
	listed, err := at.ListAuth()
	if err != nil {
		return err
	}
	one := listed["people/"]
	if one == nil || one.Type != "userpass" || one.Description != "whom we know" ||
		one.Config.DefaultLeaseTTL != 3600 || listed["token/"] == nil {
		return fmt.Errorf("listed %+v", listed)
	}
	if err := at.TuneMount("auth/people", api.MountConfigInput{MaxLeaseTTL: "5h"}); err != nil {
		return err
	}
	config, err := at.MountConfig("auth/people")
	if err != nil || config.MaxLeaseTTL != 18000 || config.TokenType != "default-service" {
		return fmt.Errorf("tuned to %+v: %v", config, err)
	}
	if err := at.DisableAuth("people"); err != nil {
		return err
	}
	return refused(at.DisableAuth("token"), 400, "token credential backend cannot be disabled")
}

func policies(client *api.Client) error {
	const text = `path "secret/*" { capabilities = ["read"] }`
	at := client.Sys()
	if err := at.PutPolicy("Reader", text); err != nil {
		return err
	}
	read, err := at.GetPolicy("reader")
	if err != nil || read != text {
		return fmt.Errorf("reads %q: %v", read, err)
	}
	listed, err := at.ListPolicies()
	if err != nil {
		return err
	}
	for _, name := range []string{"default", "reader", "root"} {
		if !slices.Contains(listed, name) {
			return fmt.Errorf("listed %v", listed)
		}
	}
	if err := at.DeletePolicy("reader"); err != nil {
		return err
	}
	gone, err := at.GetPolicy("reader")
	return first(
		ensure(gone == "" && err == nil, "what is gone reads %q: %v", gone, err),
		refused(at.DeletePolicy("root"), 400, `cannot delete "root" policy`),
		refused(at.PutPolicy("bad", `path "a" { capabilities = ["fly"] }`), 400, "failed to parse policy"),
	)
}
