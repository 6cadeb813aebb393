// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

const (
	defaultValidFor = 24 * time.Hour
	// stampingDelay is how long API servers may take to obey a policy after it was made.
	stampingDelay = 10 * time.Second
	// stampName is the name of the admission rules in config/webhook that write approvers.
	stampName = "sluice-approval"

	serviceAccountPrefix = "system:serviceaccount:"
)

// approvals sorts what was given for a step of the current run into those that count, one for each
// person, and the reasons why others do not. It is PURE.
func (p *planner) approvals(step int32, asked *v1alpha1.StepApproval) (counted []v1alpha1.Approval, void []string) {
	for _, given := range p.seen.Approvals {
		if given.Spec.Canary != p.canary.Name || given.Spec.Run != p.status.Run || given.Spec.Step != step {
			continue
		}
		if why := p.voids(&given, asked); why != "" {
			void = append(void, fmt.Sprintf("%s %s", given.Name, why))
			continue
		}
		if !slices.ContainsFunc(counted, func(other v1alpha1.Approval) bool { return other.Approver.Username == given.Approver.Username }) {
			counted = append(counted, given)
		}
	}
	return counted, void
}

// voids says why an Approval does not count; empty when it does.
func (p *planner) voids(given *v1alpha1.Approval, asked *v1alpha1.StepApproval) string {
	made, stamped := given.CreationTimestamp, p.seen.StampedSince
	switch {
	case given.Spec.Revision != p.status.Canary.PodTemplateHash:
		return "is for another revision"
	case given.Spec.StepsDigest != p.stepsDigest():
		return "is for steps that were edited since; look at them and make it again"
	case given.Approver == nil || given.Approver.Username == "":
		return "has no approver: it was made while admission did not stamp"
	// Whoever made it could write any name into it.
	case stamped.IsZero() || made.Time.Before(stamped.Add(stampingDelay)):
		return "was made before admission stamped approvers, so the name in it proves nothing; make it again"
	case made.Add(durationOr(asked.ValidFor, defaultValidFor)).Before(p.now):
		return "is older than approval.validFor"
	}
	account, program := strings.CutPrefix(given.Approver.Username, serviceAccountPrefix)
	if program && !slices.Contains(asked.ServiceAccounts, strings.Replace(account, ":", "/", 1)) {
		return "is by a service account that approval.serviceAccounts does not list"
	}
	return ""
}

// StepsDigest tells one list of steps from another: 16 hexadecimal digits of the SHA-256 of their JSON.
func StepsDigest(steps []v1alpha1.Step) string {
	raw, err := json.Marshal(steps)
	if err != nil {
		// Steps are plain data. What cannot be told apart is approved by nobody.
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// showDigest says in the status what Approvals must name, while there is something to approve.
func (p *planner) showDigest() {
	p.status.StepsDigest = ""
	asks := slices.ContainsFunc(p.canary.Spec.Steps, func(step v1alpha1.Step) bool { return step.Approval != nil })
	if asks && p.status.Phase != v1alpha1.PhaseStable && p.status.Phase != v1alpha1.PhaseRejected {
		p.status.StepsDigest = p.stepsDigest()
	}
}

func (p *planner) stepsDigest() string {
	if p.digest == "" {
		p.digest = StepsDigest(p.canary.Spec.Steps)
	}
	return p.digest
}

// approvalOf is what a step asks for; nil when it asks for nothing.
func (p *planner) approvalOf(step int32) *v1alpha1.StepApproval {
	if steps := p.steps(); !p.returning() && step >= 0 && int(step) < len(steps) {
		return steps[step].Approval
	}
	return nil
}

// unapproved waits for people before the current step is left.
func (p *planner) unapproved(why string) bool {
	asked := p.approvalOf(p.status.Step)
	if asked == nil {
		return false
	}
	counted, void := p.approvals(p.status.Step, asked)
	if len(counted) >= int(max(1, asked.Count)) {
		return false
	}
	message := fmt.Sprintf("weight %s is passed: %s; it has %d of %d approvals of step %d of run %s, revision %s",
		p.weightText(p.status.Weight), why, len(counted), max(1, asked.Count), p.status.Step, p.status.Run, p.status.Canary.PodTemplateHash)
	if len(void) > 0 {
		message += "; Approval " + strings.Join(void, ", ")
	}
	if p.status.Phase != v1alpha1.PhaseAwaitingApproval {
		p.enter(v1alpha1.PhaseAwaitingApproval, message)
	}
	p.wait(v1alpha1.ReasonAwaitingApproval, message)
	return true
}

// noteApprovals records whose word it was, when a step is left or skipped.
func (p *planner) noteApprovals(step int32) {
	asked := p.approvalOf(step)
	if asked == nil {
		return
	}
	counted, _ := p.approvals(step, asked)
	for _, given := range counted {
		message := fmt.Sprintf("step %d is approved by %s", given.Spec.Step, given.Approver.Username)
		p.note(message)
		p.record.Entries[len(p.record.Entries)-1].Approval = &v1alpha1.RunApproval{
			Name: given.Name, Username: given.Approver.Username, Step: given.Spec.Step, Comment: given.Spec.Comment,
		}
		p.event(false, v1alpha1.ReasonApproved, message)
	}
}

// hurriesTo is the step to which a promotion on request may go: the last, or the first whose approval
// is missing. Who may annotate a Canary may skip its gates, not other people's word.
func (p *planner) hurriesTo() int32 {
	last := int32(len(p.steps())) - 1
	for step := max(0, p.status.Step); step < last; step++ {
		if asked := p.approvalOf(step); asked != nil {
			if counted, _ := p.approvals(step, asked); len(counted) < int(max(1, asked.Count)) {
				return step
			}
		}
	}
	return last
}

// approvals reads the Approvals of the current run, and since when admission stamps them.
func (o *observer) approvals(ctx context.Context, s *scene) error {
	asks := slices.ContainsFunc(s.canary.Spec.Steps, func(step v1alpha1.Step) bool { return step.Approval != nil })
	if !asks || s.canary.Status.Run == "" || s.canary.Status.Phase == v1alpha1.PhaseStable {
		return nil
	}
	list := &v1alpha1.ApprovalList{}
	// From the cache: an Approval never changes, and one that is seen late is only late.
	if err := o.cached.List(ctx, list, client.InNamespace(s.canary.Namespace)); err != nil {
		return fmt.Errorf("list approvals: %w", err)
	}
	for i := range list.Items {
		if given := &list.Items[i]; given.Spec.Canary == s.canary.Name && given.Spec.Run == s.canary.Status.Run {
			s.Approvals = append(s.Approvals, *given)
		}
	}
	if len(s.Approvals) == 0 {
		return nil
	}
	slices.SortFunc(s.Approvals, func(a, b v1alpha1.Approval) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var err error
	s.StampedSince, err = o.stampedSince(ctx)
	return err
}

// stampedSince is when the admission rule that writes approvers came to be; zero when there is none.
// A rule that was deleted and made again starts anew: what came in between has no stamp, or a forged
// one.
func (o *observer) stampedSince(ctx context.Context) (time.Time, error) {
	policy, err := o.created(ctx, "MutatingAdmissionPolicy")
	if err != nil {
		return time.Time{}, err
	}
	binding, err := o.created(ctx, "MutatingAdmissionPolicyBinding")
	if err != nil {
		return time.Time{}, err
	}
	if !policy.IsZero() && !binding.IsZero() {
		if binding.After(policy) {
			return binding, nil
		}
		return policy, nil
	}
	return o.created(ctx, "MutatingWebhookConfiguration")
}

// created is when an admission rule was made; zero when the cluster has none, or no such kind.
func (o *observer) created(ctx context.Context, kind string) (time.Time, error) {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(admissionregistrationv1.SchemeGroupVersion.WithKind(kind))
	err := o.reader.Get(ctx, types.NamespacedName{Name: stampName}, object)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("read %s %s: %w", kind, stampName, err)
	case !object.DeletionTimestamp.IsZero():
		return time.Time{}, nil
	}
	return object.CreationTimestamp.Time, nil
}
