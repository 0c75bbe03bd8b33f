package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// Where the mount of a path is, and its version: what each command of `kv` asks first.
func preflight(client *api.Client, path string) (string, string, error) {
	request := client.NewRequest("GET", "/v1/sys/internal/ui/mounts/"+path)
	answer, err := client.RawRequest(request)
	if answer != nil {
		defer answer.Body.Close()
	}
	if err != nil {
		return "", "", err
	}
	secret, err := api.ParseSecret(answer.Body)
	if err != nil {
		return "", "", err
	}
	mount, _ := secret.Data["path"].(string)
	version := "1"
	if options, found := secret.Data["options"].(map[string]any); found {
		if told, found := options["version"].(string); found {
			version = told
		}
	}
	return mount, version, nil
}

func enable(client *api.Client, mount, version string) error {
	return client.Sys().Mount(mount, &api.MountInput{
		Type: "kv", Options: map[string]string{"version": version},
	})
}

func kvOne(client *api.Client) error {
	if err := enable(client, "kv-one", "1"); err != nil {
		return err
	}
	mount, version, err := preflight(client, "kv-one/deep/down")
	if err != nil || mount != "kv-one/" || version != "1" {
		return fmt.Errorf("found version %s at %q: %v", version, mount, err)
	}
	at := client.Logical()
	if _, err := at.Write("kv-one/deep/down", map[string]any{"a": "b", "ttl": "1h"}); err != nil {
		return err
	}
	read, err := at.ReadWithData("kv-one/deep/down", map[string][]string{})
	if err != nil {
		return err
	}
	listed, err := at.List("kv-one/")
	if err != nil {
		return err
	}
	_, err = at.Delete("kv-one/deep/down")
	return first(
		err,
		ensure(read.Data["a"] == "b" && read.LeaseDuration == 3600, "read %+v", read),
		ensure(fmt.Sprint(listed.Data["keys"]) == "[deep/]", "listed %v", listed.Data),
	)
}

func number(told any) string {
	return fmt.Sprint(told)
}

func kvTwo(client *api.Client) error {
	if err := enable(client, "team/kv", "2"); err != nil {
		return err
	}
	mount, version, err := preflight(client, "team/kv/app/db")
	if err != nil || mount != "team/kv/" || version != "2" {
		return fmt.Errorf("found version %s at %q: %v", version, mount, err)
	}
	at := client.Logical()
	put := func(options map[string]any, word string) (*api.Secret, error) {
		data := map[string]any{"word": word}
		return at.Write("team/kv/data/app/db", map[string]any{"data": data, "options": options})
	}
	made, err := put(map[string]any{"cas": 0}, "one")
	if err != nil {
		return err
	}
	_, late := put(map[string]any{"cas": 0}, "two")
	if err := first(
		ensure(number(made.Data["version"]) == "1", "made %v", made.Data),
		ensure(made.Data["created_time"] != nil && made.Data["destroyed"] == false, "%v", made.Data),
		refused(late, 400, "check-and-set parameter did not match the current version"),
	); err != nil {
		return err
	}
	if _, err := put(map[string]any{}, "two"); err != nil {
		return err
	}
	patched, err := at.JSONMergePatch(context.Background(), "team/kv/data/app/db",
		map[string]any{"data": map[string]any{"more": "x"}, "options": map[string]any{}})
	if err != nil {
		return err
	}
	read := func(version string) (*api.Secret, error) {
		asked := map[string][]string{}
		if version != "" {
			asked["version"] = []string{version}
		}
		return at.ReadWithData("team/kv/data/app/db", asked)
	}
	word := func(version, expect string) error {
		told, err := read(version)
		if err != nil || told == nil {
			return fmt.Errorf("version %q reads %v: %v", version, told, err)
		}
		data, _ := told.Data["data"].(map[string]any)
		return ensure(data["word"] == expect, "version %q reads %v", version, told.Data)
	}
	if err := first(
		ensure(number(patched.Data["version"]) == "3", "patched %v", patched.Data),
		word("", "two"), word("1", "one"),
	); err != nil {
		return err
	}
	// The program gives versions as text.
	some := map[string]any{"versions": []string{"2", "3"}}
	if _, err := at.Write("team/kv/delete/app/db", some); err != nil {
		return err
	}
	deleted, err := read("3")
	if err != nil || deleted == nil {
		return fmt.Errorf("a deleted version reads %v: %v", deleted, err)
	}
	metadata, _ := deleted.Data["metadata"].(map[string]any)
	if time, _ := metadata["deletion_time"].(string); time == "" || deleted.Data["data"] != nil {
		return fmt.Errorf("a deleted version reads %v", deleted.Data)
	}
	if _, err := at.Write("team/kv/undelete/app/db", some); err != nil {
		return err
	}
	destroyed := map[string]any{"versions": []string{"2"}}
	if _, err := at.Write("team/kv/destroy/app/db", destroyed); err != nil {
		return err
	}
	if _, err := at.Write("team/kv/metadata/app/db", map[string]any{
		"max_versions": 6, "cas_required": false, "delete_version_after": "3h",
		"custom_metadata": map[string]string{"whose": "judge"},
	}); err != nil {
		return err
	}
	if _, err := at.JSONMergePatch(context.Background(), "team/kv/metadata/app/db",
		map[string]any{"custom_metadata": map[string]any{"floor": "3"}}); err != nil {
		return err
	}
	told, err := at.Read("team/kv/metadata/app/db")
	if err != nil {
		return err
	}
	custom, _ := told.Data["custom_metadata"].(map[string]any)
	versions, _ := told.Data["versions"].(map[string]any)
	second, _ := versions["2"].(map[string]any)
	if err := first(
		ensure(custom["whose"] == "judge" && custom["floor"] == "3", "%v", custom),
		ensure(told.Data["max_versions"] == json.Number("6"), "%v", told.Data),
		ensure(told.Data["delete_version_after"] == "3h0m0s", "%v", told.Data),
		ensure(len(versions) == 3 && second["destroyed"] == true, "%v", versions),
	); err != nil {
		return err
	}
	// `kv rollback -version=1`: what that version holds, if no other was made meanwhile.
	if _, err := put(map[string]any{"cas": 3}, "one"); err != nil {
		return err
	}
	if err := word("4", "one"); err != nil {
		return err
	}
	listed, err := at.List("team/kv/metadata/")
	if err != nil || fmt.Sprint(listed.Data["keys"]) != "[app/]" {
		return fmt.Errorf("listed %v: %v", listed, err)
	}
	if _, err := at.Delete("team/kv/data/app/db"); err != nil {
		return err
	}
	if _, err := at.Delete("team/kv/metadata/app/db"); err != nil {
		return err
	}
	gone, err := at.Read("team/kv/metadata/app/db")
	return first(err, ensure(gone == nil, "what is gone reads %v", gone), typed(client))
}

// The calls of the client that know what `kv` is.
func typed(client *api.Client) error {
	ctx := context.Background()
	at := client.KVv2("team/kv")
	if _, err := at.Put(ctx, "x", map[string]any{"n": "1"}, api.WithCheckAndSet(0)); err != nil {
		return err
	}
	if _, err := at.Patch(ctx, "x", map[string]any{"m": "2"}); err != nil {
		return err
	}
	if _, err := at.Rollback(ctx, "x", 1); err != nil {
		return err
	}
	all, err := at.GetVersionsAsList(ctx, "x")
	if err != nil || len(all) != 3 {
		return fmt.Errorf("versions %v: %v", all, err)
	}
	read, err := at.Get(ctx, "x")
	if err != nil || len(read.Data) != 1 || read.VersionMetadata.CreatedTime.IsZero() {
		return fmt.Errorf("read %+v: %v", read, err)
	}
	if err := at.DeleteMetadata(ctx, "x"); err != nil {
		return err
	}
	_, err = at.Get(ctx, "x")
	return ensure(err != nil && strings.Contains(err.Error(), "secret not found"), "ended with %v", err)
}

func kvUpgrade(client *api.Client) error {
	if err := enable(client, "growing", "1"); err != nil {
		return err
	}
	if _, err := client.Logical().Write("growing/it", map[string]any{"a": "b"}); err != nil {
		return err
	}
	tuned := api.MountConfigInput{Options: map[string]string{"version": "2"}}
	if err := client.Sys().TuneMount("growing", tuned); err != nil {
		return err
	}
	_, version, err := preflight(client, "growing/it")
	if err != nil || version != "2" {
		return fmt.Errorf("found version %s: %v", version, err)
	}
	read, err := client.KVv2("growing").Get(context.Background(), "it")
	return first(err, ensure(err == nil && read.Data["a"] == "b", "read %+v", read))
}

// Who may read one secret may find its mount, and nobody else's.
func kvPoor(client *api.Client) error {
	const text = `path "team/kv/data/mine" { capabilities = ["read"] }`
	if err := client.Sys().PutPolicy("poor", text); err != nil {
		return err
	}
	made, err := client.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"poor"}})
	if err != nil {
		return err
	}
	poor := as(client, made.Auth.ClientToken)
	mount, version, err := preflight(poor, "team/kv/mine")
	_, _, other := preflight(poor, "kv-one/x")
	_, _, none := preflight(poor, "nowhere/x")
	return first(
		err,
		ensure(mount == "team/kv/" && version == "2", "found version %s at %q", version, mount),
		refused(other, 403, "preflight capability check returned 403"),
		refused(none, 403, "preflight capability check returned 403"),
	)
}
