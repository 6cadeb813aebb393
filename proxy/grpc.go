// SPDX-License-Identifier: Apache-2.0

package proxy

const (
	// grpcUnimplemented is the status of a call that fails as often as it is made.
	grpcUnimplemented = "12"
	// grpcDeadline is the status of a call that took too long.
	grpcDeadline = "4"
	// grpcDenied is the status of a call that its caller may not make.
	grpcDenied = "7"
	// grpcExhausted is the status of a call whose caller makes too many.
	grpcExhausted = "8"
	// grpcUnavailable is the status of a call that may be made again.
	grpcUnavailable = "14"
)

// grpcStatusOf is the status of a call that was answered in the proxy's own name.
func grpcStatusOf(code string) string {
	switch code {
	case errorHTTP1Only:
		return grpcUnimplemented
	case errorDenied:
		return grpcDenied
	case errorRateLimited:
		return grpcExhausted
	case errorRequestTime, errorTryTime, errorIdleTime:
		return grpcDeadline
	}
	return grpcUnavailable
}

// knownGRPC is a status as a label: what gRPC does not know could be anything.
func knownGRPC(status string) string {
	switch status {
	case "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16":
		return status
	}
	return otherValue
}

// failedGRPC says whether a status is the server's failure, as 5xx is: UNKNOWN, DEADLINE_EXCEEDED,
// UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS. The others say that the caller asked for what
// it does not get.
func failedGRPC(status string) bool {
	switch status {
	case "2", "4", "12", "13", "14", "15", otherValue:
		return true
	}
	return false
}
