// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// FieldManager is the one field manager with which Sluice writes by server-side apply. Flux strips
// managers whose name begins with "kubectl", so the name must never begin so.
const FieldManager = "sluice-controller"

// Labels and annotations that Sluice puts on objects or reads from them.
const (
	// LabelCanary is on a Deployment that a Canary targets; its value is the Canary's name. The
	// admission rule that holds template changes selects Deployments by it.
	LabelCanary = "sluice.dev/canary"
	// LabelHold is on a Deployment that is held; its value is the name of the run that holds it.
	// It is ignored when that run is not the Canary's current one. Admission writes HoldPending in
	// the request that it pauses: no run exists yet, and a pause without this label is a person's.
	LabelHold = "sluice.dev/hold"
	// LabelManage with the value ManageOff, set on a Deployment in the request that unpauses it, is
	// the recorded break-glass: admission lets template changes through unheld.
	LabelManage = "sluice.dev/manage"
	// LabelRestarts with the value RestartsHeld is on a Deployment whose Canary does not leave restarts to
	// it: admission then holds a change of only restart annotations, too.
	LabelRestarts = "sluice.dev/restarts"
	// LabelRevision is on ReplicaSets that a run has taken out of the Deployment's selector; its
	// value is RevisionStable, RevisionCanary or RevisionHistory.
	LabelRevision = "sluice.dev/revision"
	// LabelInject on a namespace or a pod asks for the sidecar (InjectEnabled) or refuses it
	// (InjectDisabled).
	LabelInject = "sluice.dev/inject"
	// AnnotationDefaultAccess on a namespace says who may call pods there that no enforcing AccessPolicy
	// names: DefaultAccessAllow, DefaultAccessMeshed or DefaultAccessDeny.
	AnnotationDefaultAccess = "sluice.dev/default-access"
	// AnnotationWorkload is on an injected pod: the namespace-local name of its workload.
	AnnotationWorkload = "sluice.dev/workload"
	// AnnotationSourceRevision on a workload says which revision of its source it is at, for those who
	// apply without Flux or Argo CD, and AnnotationSourceAuthor who made it.
	AnnotationSourceRevision = "sluice.dev/source-revision"
	AnnotationSourceAuthor   = "sluice.dev/source-author"
	// AnnotationAbort, AnnotationPromote, AnnotationPause and AnnotationRetry on a Canary are what
	// people ask of a run. The value is the name of the run they speak of, so a request that comes too
	// late is void. Abort takes the traffic back and rejects the template; promote goes on without the
	// gates of the steps that are left; pause lets the run stand still as long as it is there; retry
	// names a run that was rejected and starts another for the same template.
	AnnotationAbort   = "sluice.dev/abort"
	AnnotationPromote = "sluice.dev/promote"
	AnnotationPause   = "sluice.dev/pause"
	AnnotationRetry   = "sluice.dev/retry"
	// AnnotationRestart on a Canary asks that stable's pods made before its value, a time as RFC 3339
	// writes it, be replaced one by one within the limits of the PodDisruptionBudgets.
	AnnotationRestart = "sluice.dev/restart"
	// FinalizerCanary keeps a Canary until its traffic is back on stable and its hold is released.
	FinalizerCanary = "sluice.dev/canary"
)

// Values of the labels above.
const (
	ManageOff      = "off"
	HoldPending    = "pending"
	RestartsHeld   = "held"
	InjectEnabled  = "enabled"
	InjectDisabled = "disabled"
	// DefaultAccessAllow lets everybody in, DefaultAccessMeshed who has an identity of the mesh,
	// DefaultAccessDeny nobody.
	DefaultAccessAllow  = "allow"
	DefaultAccessMeshed = "meshed"
	DefaultAccessDeny   = "deny"
	RevisionStable      = "stable"
	RevisionCanary      = "canary"
	RevisionHistory     = "history"
)
