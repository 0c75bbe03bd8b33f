// Judges a server by what Vault's own Go client makes of it, or OpenBao's, which `openbao.mod` puts
// in its place. `judge client` wraps and unwraps, and lets the LifetimeWatcher renew a token;
// `judge program` makes the calls that the programs `vault` and `bao` are made of, from the first
// share to the seal, and is told whether the server is `open` as those expect it, or `strict`, and
// a folder. Prints a line for each thing that held; ends with an error at the first that did not.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

func main() {
	if err := judge(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A step is one thing that is to hold.
type step struct {
	name string
	run  func(*api.Client) error
}

func judge(words []string) error {
	config := api.DefaultConfig()
	if config.Error != nil {
		return config.Error
	}
	client, err := api.NewClient(config)
	if err != nil {
		return err
	}
	steps := []step{
		{"health", health},
		{"token", token},
		{"kv", kv},
		{"wrapping", wrapping},
		{"replay", replay},
		{"watcher of a token", watcher},
		{"watcher at its end", lastRenewal},
		{"capabilities", capabilities},
		{"leases", leases},
	}
	if len(words) == 3 && words[0] == "program" {
		held := round{strict: words[1] == "strict", folder: words[2]}
		steps = held.steps()
	} else if len(words) != 1 || words[0] != "client" {
		return fmt.Errorf("judge client | judge program open|strict FOLDER")
	}
	for _, step := range steps {
		if err := step.run(client); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Println("held:", step.name)
	}
	return nil
}

func health(client *api.Client) error {
	health, err := client.Sys().Health()
	if err != nil {
		return err
	}
	if !health.Initialized || health.Sealed {
		return fmt.Errorf("not as it should be: %+v", health)
	}
	return nil
}

func token(client *api.Client) error {
	made, err := client.Auth().Token().Create(&api.TokenCreateRequest{
		Policies: []string{"default"}, TTL: "1h", DisplayName: "judge",
		Metadata: map[string]string{"who": "judge"},
	})
	if err != nil {
		return err
	}
	shown, err := client.Auth().Token().LookupAccessor(made.Auth.Accessor)
	if err != nil {
		return err
	}
	meta, err := shown.TokenMetadata()
	if err != nil {
		return err
	}
	if meta["who"] != "judge" {
		return fmt.Errorf("metadata is %v", meta)
	}
	batch, err := client.Auth().Token().Create(&api.TokenCreateRequest{
		Policies: []string{"default"}, TTL: "1h", Type: "batch",
	})
	if err != nil {
		return err
	}
	if _, err := client.Auth().Token().Lookup(batch.Auth.ClientToken); err != nil {
		return err
	}
	if err := client.Auth().Token().RevokeAccessor(made.Auth.Accessor); err != nil {
		return err
	}
	if _, err := client.Auth().Token().Lookup(made.Auth.ClientToken); err == nil {
		return fmt.Errorf("a revoked token is found")
	}
	return nil
}

func kv(client *api.Client) error {
	ctx := context.Background()
	if _, err := client.KVv2("secret").Put(ctx, "judge", map[string]any{"word": "x"}); err != nil {
		return err
	}
	read, err := client.KVv2("secret").Get(ctx, "judge")
	if err != nil {
		return err
	}
	if read.Data["word"] != "x" {
		return fmt.Errorf("read %v", read.Data)
	}
	return nil
}

func wrapped(client *api.Client) (*api.Secret, error) {
	other, err := client.Clone()
	if err != nil {
		return nil, err
	}
	other.SetToken(client.Token())
	other.SetWrappingLookupFunc(func(string, string) string { return "5m" })
	return other.Logical().Read("secret/data/judge")
}

func wrapping(client *api.Client) error {
	secret, err := wrapped(client)
	if err != nil {
		return err
	}
	info := secret.WrapInfo
	if info == nil || info.TTL != 300 || info.CreationPath != "secret/data/judge" {
		return fmt.Errorf("wrap_info is %+v", info)
	}
	if age := time.Since(info.CreationTime); age < -time.Minute || time.Minute < age {
		return fmt.Errorf("it was made %s ago", age)
	}
	inside, err := client.Logical().Unwrap(info.Token)
	if err != nil {
		return err
	}
	data, _ := inside.Data["data"].(map[string]any)
	if data["word"] != "x" {
		return fmt.Errorf("inside is %v", inside.Data)
	}
	return nil
}

func replay(client *api.Client) error {
	secret, err := wrapped(client)
	if err != nil {
		return err
	}
	first, err := client.Clone()
	if err != nil {
		return err
	}
	// As one who was handed nothing but the wrapping token.
	first.SetToken(secret.WrapInfo.Token)
	if _, err := first.Logical().Unwrap(""); err != nil {
		return err
	}
	_, err = client.Logical().Unwrap(secret.WrapInfo.Token)
	if err == nil || !strings.Contains(err.Error(), "wrapping token is not valid") {
		return fmt.Errorf("the second use ended with: %v", err)
	}
	return nil
}

func watch(client *api.Client, request *api.TokenCreateRequest) (*api.LifetimeWatcher, error) {
	made, err := client.Auth().Token().Create(request)
	if err != nil {
		return nil, err
	}
	holder, err := client.Clone()
	if err != nil {
		return nil, err
	}
	holder.SetToken(made.Auth.ClientToken)
	return holder.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: made})
}

func watcher(client *api.Client) error {
	renewable := true
	watcher, err := watch(client, &api.TokenCreateRequest{
		Policies: []string{"default"}, Period: "3s", Renewable: &renewable,
	})
	if err != nil {
		return err
	}
	go watcher.Start()
	defer watcher.Stop()
	late := time.After(20 * time.Second)
	for renewals := 0; renewals < 2; {
		select {
		case renewal := <-watcher.RenewCh():
			if renewal.Secret.Auth.LeaseDuration != 3 {
				return fmt.Errorf("renewed for %d s", renewal.Secret.Auth.LeaseDuration)
			}
			renewals++
		case err := <-watcher.DoneCh():
			return fmt.Errorf("gave up: %v", err)
		case <-late:
			return fmt.Errorf("was not renewed in time")
		}
	}
	return nil
}

func lastRenewal(client *api.Client) error {
	renewable := true
	watcher, err := watch(client, &api.TokenCreateRequest{
		Policies: []string{"default"}, TTL: "2s", ExplicitMaxTTL: "3s", Renewable: &renewable,
	})
	if err != nil {
		return err
	}
	go watcher.Start()
	defer watcher.Stop()
	late := time.After(20 * time.Second)
	for {
		select {
		case <-watcher.RenewCh():
		case err := <-watcher.DoneCh():
			// It ends without an error: whoever holds it is to log in anew.
			return err
		case <-late:
			return fmt.Errorf("it went on beyond its longest life")
		}
	}
}

func capabilities(client *api.Client) error {
	policy := `path "secret/data/judge" { capabilities = ["read", "update"] }`
	if err := client.Sys().PutPolicy("judge", policy); err != nil {
		return err
	}
	read, err := client.Sys().GetPolicy("judge")
	if err != nil || read != policy {
		return fmt.Errorf("the policy reads %q: %v", read, err)
	}
	made, err := client.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"judge"}})
	if err != nil {
		return err
	}
	found, err := client.Sys().Capabilities(made.Auth.ClientToken, "secret/data/judge")
	if err != nil {
		return err
	}
	if strings.Join(found, ",") != "read,update" {
		return fmt.Errorf("capabilities are %v", found)
	}
	return nil
}

func leases(client *api.Client) error {
	made, err := client.Auth().Token().CreateOrphan(&api.TokenCreateRequest{
		Policies: []string{"default"}, TTL: "1h",
	})
	if err != nil {
		return err
	}
	listed, err := client.Logical().List("sys/leases/lookup/auth/token/create-orphan")
	if err != nil {
		return err
	}
	keys, _ := listed.Data["keys"].([]any)
	if len(keys) == 0 {
		return fmt.Errorf("no lease is listed")
	}
	if err := client.Sys().RevokePrefix("auth/token/create-orphan"); err != nil {
		return err
	}
	if _, err := client.Auth().Token().Lookup(made.Auth.ClientToken); err == nil {
		return fmt.Errorf("a token outlived its lease")
	}
	return nil
}
