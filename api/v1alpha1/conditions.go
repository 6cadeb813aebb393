// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types. Ready is always present; Reconciling and Stalled are present only when True and
// never together, as kstatus asks.
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
	// ConditionAcknowledged is on a TrafficSplit: True when every proxy that carries the workload's
	// traffic runs the weights of the current generation.
	ConditionAcknowledged = "Acknowledged"
)

// Reasons of the Canary's conditions.
const (
	ReasonStable              = "Stable"              // Ready: the workload runs what Git says
	ReasonProgressing         = "Progressing"         // Reconciling: a run moves
	ReasonPromoting           = "Promoting"           // Reconciling: the handover is under way
	ReasonRollingBack         = "RollingBack"         // Reconciling: traffic and pods go back to stable
	ReasonRolledBack          = "RolledBack"          // Stalled: the canary was rejected
	ReasonMetricsUnavailable  = "MetricsUnavailable"  // Reconciling: no data; the step's clock stands
	ReasonSuspended           = "Suspended"           // Ready Unknown: spec.suspend is true
	ReasonTargetNotFound      = "TargetNotFound"      // Stalled: spec.targetRef names nothing
	ReasonTargetConflict      = "TargetConflict"      // Stalled: another Canary has this target
	ReasonInvalidSpec         = "InvalidSpec"         // Stalled: a field that admission could not judge
	ReasonWaitingForRollout   = "WaitingForRollout"   // Reconciling: an unheld rollout was in flight when the Canary came
	ReasonInsufficientCanary  = "InsufficientCanary"  // Reconciling: canary pods do not become ready
	ReasonWaitingForProxies   = "WaitingForProxies"   // Reconciling: proxies have not acknowledged the weights
	ReasonAcknowledged        = "Acknowledged"        // Acknowledged: every proxy runs the generation
	ReasonBypassed            = "Bypassed"            // Reconciling: a template change was not held
	ReasonInsufficientStable  = "InsufficientStable"  // Reconciling: stable lacks the ready pods to take all traffic back
	ReasonScaledToZero        = "ScaledToZero"        // Reconciling: the workload has no replicas, the run waits
	ReasonPausedByPerson      = "PausedByPerson"      // Ready: the workload is paused and Sluice did not do it
	ReasonScaling             = "Scaling"             // event: canary pods are made for the next weight
	ReasonShifting            = "Shifting"            // event: a weight is being written
	ReasonHolding             = "Holding"             // event: a weight is in force, its gate is judged
	ReasonRejected            = "Rejected"            // event: the canary is gone, the workload is held at the rejected template
	ReasonMovedOn             = "MovedOn"             // event: the workload no longer asks for the rejected template
	ReasonCancelled           = "Cancelled"           // event: the run ended because its template is no longer asked for
	ReasonReleased            = "Released"            // event: the hold on the workload was released
	ReasonHeldForever         = "HeldForever"         // event: the Canary goes, the workload stays paused at a rejected template
	ReasonAdopted             = "Adopted"             // event: a template that rolled out unheld is stable now
	ReasonPromoted            = "Promoted"            // event: the canary is stable now
	ReasonRunStarted          = "RunStarted"          // event: a run began
	ReasonWriteFailed         = "WriteFailed"         // Reconciling: a request to the API server failed and is repeated
	ReasonWaitingForWebhook   = "WaitingForWebhook"   // Reconciling: a webhook has not agreed yet
	ReasonWebhookRefused      = "WebhookRefused"      // Reconciling: a webhook cannot be called until somebody mends it
	ReasonRecorded            = "Recorded"            // event: a run ended; the head of its record, to compare with later
	ReasonRecordNotSigned     = "RecordNotSigned"     // event: somebody else has changed a run's record
	ReasonDrainDeadlinePassed = "DrainDeadlinePassed" // event: open work was cut at the drain deadline

	ReasonAwaitingApproval     = "AwaitingApproval"     // Reconciling: a step's gate is passed and people's word is missing
	ReasonRestartHeld          = "RestartHeld"          // Reconciling: a restart waits for people's word, as spec.restart says
	ReasonApproved             = "Approved"             // event: a step is left on people's word
	ReasonRequested            = "Requested"            // event: something that people asked for is being done
	ReasonInvalidRequest       = "InvalidRequest"       // event: something that people asked for cannot be read
	ReasonRestarted            = "Restarted"            // event: all of stable's pods are newer than was asked for
	ReasonPaused               = "Paused"               // Reconciling: people asked that the run stand still
	ReasonFrozen               = "Frozen"               // Reconciling: a freeze window is open
	ReasonWaitingForDependency = "WaitingForDependency" // Reconciling: a Canary of spec.dependsOn is not at rest
	ReasonWaitingForBudget     = "WaitingForBudget"     // Reconciling: the slots of a RolloutPolicy are taken
	ReasonEmergencyStop        = "EmergencyStop"        // Reconciling: a RolloutPolicy stops all runs
	ReasonInconclusive         = "Inconclusive"         // Reconciling: the gate gave no verdict within spec.maxHold
	ReasonDeadlinePassed       = "DeadlinePassed"       // Reconciling: a phase lasts longer than spec.deadlines says

	ReasonDelivering     = "Delivering"     // Ready, on a Notifier: what is to be told is delivered
	ReasonDeliveryFailed = "DeliveryFailed" // Ready False, on a Notifier: the last message was given up
	ReasonAddressRefused = "AddressRefused" // Stalled, on a Notifier: nothing can be sent until somebody mends it
)
