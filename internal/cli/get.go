// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

type getOptions struct {
	place
	all    bool
	output string
}

func newGet(dial dialer) *cobra.Command {
	options := &getOptions{place: place{dial: dial}}
	command := &cobra.Command{
		Use:               "get [NAME...]",
		Short:             "List Canaries and where their runs stand",
		ValidArgsFunction: options.complete,
		RunE: func(command *cobra.Command, arguments []string) error {
			return options.run(command.Context(), command.OutOrStdout(), arguments)
		},
	}
	flags := command.Flags()
	options.bind(flags)
	flags.BoolVarP(&options.all, "all-namespaces", "A", false, "list the Canaries of all namespaces")
	flags.StringVarP(&options.output, "output", "o", "", "json, yaml or wide")
	return command
}

func (o *getOptions) run(ctx context.Context, out io.Writer, names []string) error {
	if err := checkFormat(o.output, formatJSON, formatYAML, formatWide); err != nil {
		return err
	}
	opened, err := o.open()
	if err != nil {
		return err
	}
	list, err := o.list(ctx, opened, names)
	if err != nil {
		return err
	}
	switch {
	case o.output == "" || o.output == formatWide:
		return o.table(out, opened, list.Items)
	case len(names) == 1:
		return writeObject(out, o.output, &list.Items[0])
	}
	return writeObject(out, o.output, list)
}

func (o *getOptions) list(ctx context.Context, opened *session, names []string) (*v1alpha1.CanaryList, error) {
	list := &v1alpha1.CanaryList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CanaryList"))
	for _, name := range names {
		canary, err := opened.canary(ctx, name)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, *canary)
	}
	if len(names) > 0 {
		return list, nil
	}
	namespace := opened.namespace
	if o.all {
		namespace = metav1.NamespaceAll
	}
	if err := opened.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list Canaries: %w", err)
	}
	for i := range list.Items {
		list.Items[i].SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Canary"))
		list.Items[i].ManagedFields = nil
	}
	return list, nil
}

func (o *getOptions) table(out io.Writer, opened *session, canaries []v1alpha1.Canary) error {
	if len(canaries) == 0 {
		_, err := fmt.Fprintln(out, "no Canaries found")
		return err
	}
	header := []string{"name", "ready", "phase", "weight", "step", "status", "age"}
	if o.all {
		header = append([]string{"namespace"}, header...)
	}
	if o.output == formatWide {
		header = append(header, "run", "stable", "canary")
	}
	rows := [][]string{header}
	for i := range canaries {
		rows = append(rows, o.row(opened, &canaries[i]))
	}
	return writeTable(out, rows)
}

func (o *getOptions) row(opened *session, canary *v1alpha1.Canary) []string {
	status := canary.Status
	ready, message := "Unknown", "not seen by a controller yet"
	if condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); condition != nil {
		ready, message = string(condition.Status), condition.Message
	}
	row := []string{
		canary.Name, ready, orDash(string(status.Phase)), strconv.Itoa(int(status.Weight)), stepText(canary),
		message, ago(opened.now(), canary.CreationTimestamp.Time),
	}
	if o.all {
		row = append([]string{canary.Namespace}, row...)
	}
	if o.output == formatWide {
		row = append(row, orDash(status.Run), revisionText(status.Stable), revisionText(status.Canary))
	}
	return row
}

// stepText counts from 1, for people.
func stepText(canary *v1alpha1.Canary) string {
	switch canary.Status.Phase {
	case "", v1alpha1.PhaseStable, v1alpha1.PhaseRejected, v1alpha1.PhaseRollingBack:
		return "-"
	}
	return fmt.Sprintf("%d/%d", canary.Status.Step+1, len(canary.Spec.Steps))
}

func revisionText(revision *v1alpha1.RevisionStatus) string {
	if revision == nil {
		return "-"
	}
	return fmt.Sprintf("%s %d/%d", revision.ReplicaSet, revision.ReadyReplicas, revision.Replicas)
}
