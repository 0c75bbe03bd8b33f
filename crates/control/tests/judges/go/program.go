package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/vault/api"
)

// What one round of commands hands on to the next.
type round struct {
	// Whether the server is stricter than those programs expect, as OpenBao is.
	strict bool
	// Where the server may write an audit log.
	folder string
	// Two of these three open the server.
	shares []string
}

func (r *round) steps() []step {
	return append([]step{
		{"operator init, unseal, seal, status", r.begin},
		{"read, write, list, delete", logical},
		{"what `-format=json` shows", shapes},
		{"secrets", secrets},
		{"auth", methods},
		{"policy", policies},
		{"kv version 1", kvOne},
		{"kv version 2", kvTwo},
		{"kv enable-versioning", kvUpgrade},
		{"the kv commands of who may little", kvPoor},
		{"login", login},
		{"token", tokens},
		{"token capabilities", capable},
		{"unwrap", unwrap},
		{"lease", leased},
		{"ssh", shell},
		{"audit", r.audit},
		{"operator rotate, key-status", rotate},
		{"operator rekey", r.rekey},
		{"operator generate-root", r.generateRoot},
		{"operator members, step-down, raft", cluster},
	}, append(only(r), step{"operator seal at the end", r.end})...)
}

// Refused with this status and a text that holds `why`.
func refused(err error, status int, why string) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return fmt.Errorf("ended with `%v`, and not with a refusal of %d", err, status)
	}
	if answer.StatusCode != status || !strings.Contains(strings.Join(answer.Errors, "; "), why) {
		return fmt.Errorf("refused with %d %v, not with %d `%s`",
			answer.StatusCode, answer.Errors, status, why)
	}
	return nil
}

// Fails unless `held`.
func ensure(held bool, text string, facts ...any) error {
	if held {
		return nil
	}
	return fmt.Errorf(text, facts...)
}

// The first that failed.
func first(errs ...error) error {
	for at, err := range errs {
		if err != nil {
			return fmt.Errorf("check %d: %w", at+1, err)
		}
	}
	return nil
}

// A client that shows this token.
func as(client *api.Client, token string) *api.Client {
	other, err := client.Clone()
	if err != nil {
		panic(err)
	}
	other.SetToken(token)
	return other
}

func logical(client *api.Client) error {
	at := client.Logical()
	if _, err := at.Write("cubbyhole/a/b", map[string]any{"n": 12345678901234, "t": "x"}); err != nil {
		return err
	}
	read, err := at.Read("cubbyhole/a/b")
	if err != nil {
		return err
	}
	listed, err := at.List("cubbyhole/a")
	if err != nil {
		return err
	}
	if _, err := at.WriteBytes("cubbyhole/raw", []byte(`{"from": "stdin"}`)); err != nil {
		return err
	}
	raw, err := at.ReadRaw("cubbyhole/raw")
	if err != nil {
		return err
	}
	parsed, err := at.ParseRawResponseAndCloseBody(raw, nil)
	if err != nil {
		return err
	}
	if _, err := at.Delete("cubbyhole/a/b"); err != nil {
		return err
	}
	gone, goneErr := at.Read("cubbyhole/a/b")
	empty, emptyErr := at.List("cubbyhole/a")
	_, unmounted := at.Write("nothing/here", map[string]any{"a": "b"})
	return first(
		ensure(read.Data["n"] == json.Number("12345678901234"), "a number reads %v", read.Data["n"]),
		ensure(fmt.Sprint(listed.Data["keys"]) == "[b]", "listed %v", listed.Data),
		ensure(parsed.Data["from"] == "stdin", "read %v", parsed.Data),
		ensure(gone == nil && goneErr == nil, "what is gone reads %v, %v", gone, goneErr),
		ensure(empty == nil && emptyErr == nil, "nothing is listed as %v, %v", empty, emptyErr),
		refused(unmounted, 404, "no handler for route"),
	)
}

// What `-format=json` prints is the answer: each of these is there, and null where there is none.
func shapes(client *api.Client) error {
	for _, path := range []string{"sys/mounts", "auth/token/lookup-self", "sys/policies/acl/default"} {
		answer, err := client.Logical().ReadRaw(path)
		if err != nil {
			return err
		}
		var told map[string]any
		if err := answer.DecodeJSON(&told); err != nil {
			return err
		}
		answer.Body.Close()
		for _, name := range []string{
			"request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info",
			"warnings", "auth",
		} {
			if _, found := told[name]; !found {
				return fmt.Errorf("`%s` is not told of %s: %v", name, path, told)
			}
		}
		id, _ := told["request_id"].(string)
		if len(id) != 36 || told["lease_duration"] == nil || told["renewable"] != false {
			return fmt.Errorf("%s: %v", path, told)
		}
	}
	made, err := client.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"nope"}})
	if err != nil {
		return err
	}
	return ensure(strings.Contains(fmt.Sprint(made.Warnings), `Policy "nope" does not exist`),
		"warnings are %v", made.Warnings)
}
