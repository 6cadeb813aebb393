// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// hands carry effects out on the objects of one scene. Objects are brought up to date by each write,
// so that a second effect on the same object in the same pass is fenced by the first one's result.
type hands struct {
	client client.Client
	// reader reads past the cache.
	reader client.Reader
	seal   *Seal
	hooks  *hook.Runner
	*scene
	// events that came of the writes themselves.
	events []Event
}

// carryOut does the effects in order, up to the first that fails.
func (h *hands) carryOut(ctx context.Context, effects []Effect) error {
	for _, effect := range effects {
		if err := h.one(ctx, effect); err != nil {
			return err
		}
	}
	return nil
}

func (h *hands) one(ctx context.Context, effect Effect) error {
	switch e := effect.(type) {
	case SetFinalizer:
		return h.finalizer(ctx, controllerutil.AddFinalizer)
	case ClearFinalizer:
		return h.finalizer(ctx, controllerutil.RemoveFinalizer)
	case MarkTarget:
		return h.markTarget(ctx, e)
	case Unpause:
		return h.unpause(ctx)
	case ForgetTarget:
		return h.forgetTarget(ctx, e)
	case CreateRun:
		return h.createRun(ctx, e)
	case RecordRun:
		return h.recordRun(ctx, e)
	case DeleteRun:
		return h.deleteRun(ctx, e)
	case AskHook:
		return h.askHook(ctx, e)
	case TellHook:
		return h.tellHook(ctx, e)
	case WriteSplit:
		return h.writeSplit(ctx, e)
	case DeleteSplit:
		return h.deleteSplit(ctx)
	}
	return h.oneSet(ctx, effect)
}

func (h *hands) oneSet(ctx context.Context, effect Effect) error {
	switch e := effect.(type) {
	case CreateSet:
		return h.createSet(ctx, e)
	case ScaleSet:
		return h.scaleSet(ctx, e)
	case ReleaseSet:
		return h.releaseSet(ctx, e)
	case GiveBackSet:
		return h.giveBackSet(ctx, e)
	case DeleteSet:
		return h.deleteSet(ctx, e)
	}
	return h.oneOther(ctx, effect)
}

func (h *hands) oneOther(ctx context.Context, effect Effect) error {
	switch e := effect.(type) {
	case EvictPod:
		return h.evictPod(ctx, e)
	case TakeSlot:
		return h.takeSlot(ctx, e)
	case ReleaseSlot:
		return h.releaseSlot(ctx, e)
	}
	return fmt.Errorf("carry out %T: no such effect", effect)
}

func (h *hands) finalizer(ctx context.Context, change func(client.Object, string) bool) error {
	before := h.canary.DeepCopy()
	if !change(h.canary, v1alpha1.FinalizerCanary) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	// The response has the status as it is stored; what plan decided is written later.
	if err := h.client.Patch(ctx, h.canary, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("change the finalizer of canary %s: %w", h.canary.Name, err)
	}
	return nil
}
