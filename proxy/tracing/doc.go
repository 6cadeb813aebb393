// SPDX-License-Identifier: Apache-2.0

// Package tracing continues traces (W3C Trace Context, level 1) and sends their spans to a collector by OTLP
// over HTTP with protobuf.
//
// It must not know a proxy, nor make anybody wait for a collector: what there is no room for is dropped and
// counted.
package tracing
