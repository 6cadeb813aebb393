// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/chain"
)

// verifyOptions say against what records are checked.
type verifyOptions struct {
	heads   []string
	keyFile string
	system  string
}

// exported is a head that left the cluster's reach: in an event or by the caller's own word.
type exported struct {
	run    string
	number int32
	hash   string
	from   string
}

// errNotAsWritten is the end of a verification that found something.
var errNotAsWritten = errors.New("a record is not what was written")

func (o *verifyOptions) verifyRuns(ctx context.Context, out io.Writer, opened *session, runs []v1alpha1.CanaryRun) error {
	keys, err := o.keys(ctx, opened)
	if err != nil {
		return err
	}
	heads, err := o.exported(ctx, opened)
	if err != nil {
		return err
	}
	byName := map[string]*v1alpha1.CanaryRun{}
	for i := range runs {
		byName[runs[i].Name] = &runs[i]
	}
	rows := [][]string{{"run", "entries", "summarised", "chain", "signature", "vouched for", "run before"}}
	wrong := false
	for i := range runs {
		row, good := verifyRun(&runs[i], keys, heads, byName)
		rows = append(rows, row)
		wrong = wrong || !good
	}
	if err := writeTable(out, rows); err != nil {
		return err
	}
	if wrong {
		return errNotAsWritten
	}
	return nil
}

// verifyRun checks one record on its own, against the keys, against exported heads and against what
// the next run knew of it.
func verifyRun(run *v1alpha1.CanaryRun, keys chain.Keys, heads []exported, runs map[string]*v1alpha1.CanaryRun) ([]string, bool) {
	good, chained, signed := true, "intact", "good"
	if err := chain.Verify(run); err != nil {
		good, chained = false, err.Error()
	}
	err := chain.CheckHead(run, keys)
	switch {
	case errors.Is(err, chain.ErrUnsigned):
		good, signed = false, "none"
	case errors.Is(err, chain.ErrUnknownKey):
		signed = "unknown key " + run.Record.Head.KeyID
	case err != nil:
		good, signed = false, err.Error()
	}
	vouched, kept := vouchedFor(run, heads)
	before, tied := runBefore(run, runs)
	return []string{
		run.Name, fmt.Sprint(len(run.Record.Entries)), fmt.Sprint(chain.Summarised(&run.Record)), chained, signed, vouched, before,
	}, good && kept && tied
}

// vouchedFor finds the highest exported head that the record has. One that it lacks is a forgery.
func vouchedFor(run *v1alpha1.CanaryRun, heads []exported) (string, bool) {
	best := exported{}
	for _, head := range heads {
		if head.run != run.Name {
			continue
		}
		if !chain.Holds(run, head.number, head.hash) {
			return fmt.Sprintf("lacks the head %d of %s", head.number, head.from), false
		}
		if head.number > best.number {
			best = head
		}
	}
	if best.number == 0 {
		return "no head was exported", true
	}
	return fmt.Sprintf("up to %d, by %s", best.number, best.from), true
}

// runBefore checks the tie to the run before, which may have been pruned.
func runBefore(run *v1alpha1.CanaryRun, runs map[string]*v1alpha1.CanaryRun) (string, bool) {
	link := run.Spec.Previous
	if link == nil {
		return "-", true
	}
	before := runs[link.Run]
	switch {
	case before == nil:
		return fmt.Sprintf("%s is not at hand; its head was %d:%s", link.Run, link.Number, link.Hash), true
	case !chain.Holds(before, link.Number, link.Hash):
		return fmt.Sprintf("%s has not the entry %d that it had", link.Run, link.Number), false
	}
	return link.Run, true
}

// keys reads the public keys from the file or from the cluster.
func (o *verifyOptions) keys(ctx context.Context, opened *session) (chain.Keys, error) {
	if o.keyFile != "" {
		raw, err := os.ReadFile(o.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--public-keys: %w", err)
		}
		return rollout.ParseKeys(blocks(raw))
	}
	published := &corev1.ConfigMap{}
	name := client.ObjectKey{Namespace: o.system, Name: rollout.SealConfigMap}
	if err := opened.client.Get(ctx, name, published); err != nil {
		return nil, fmt.Errorf("read the public keys in ConfigMap %s (or give them with --public-keys): %w", name, err)
	}
	return rollout.ParseKeys(published.Data)
}

// blocks splits a file into its PEM blocks.
func blocks(raw []byte) map[string]string {
	found := map[string]string{}
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			return found
		}
		found[fmt.Sprintf("block %d", len(found)+1)] = string(pem.EncodeToMemory(block))
		raw = rest
	}
}

// exported are the heads that the caller names and those that events still tell of.
func (o *verifyOptions) exported(ctx context.Context, opened *session) ([]exported, error) {
	var heads []exported
	for _, text := range o.heads {
		run, rest, _ := strings.Cut(text, "=")
		head, found := parseHead(run, rest)
		if !found {
			return nil, fmt.Errorf("--head %s: write RUN=NUMBER:HASH, as the event or notification has it", text)
		}
		head.from = "--head"
		heads = append(heads, head)
	}
	list := &eventsv1.EventList{}
	if err := opened.client.List(ctx, list, client.InNamespace(opened.namespace)); err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	pattern := regexp.MustCompile(`^run (\S+) ended .* is (\d+:[0-9a-f]{64}),`)
	for i := range list.Items {
		event := &list.Items[i]
		match := pattern.FindStringSubmatch(event.Note)
		if event.Reason != v1alpha1.ReasonRecorded || match == nil {
			continue
		}
		if head, found := parseHead(match[1], match[2]); found {
			head.from = "event " + event.Name
			heads = append(heads, head)
		}
	}
	return heads, nil
}

func parseHead(run, text string) (exported, bool) {
	before, hash, found := strings.Cut(text, ":")
	number, err := strconv.ParseInt(before, 10, 32)
	return exported{run: run, number: int32(number), hash: hash}, found && err == nil && run != "" && number > 0 && len(hash) == 64
}
