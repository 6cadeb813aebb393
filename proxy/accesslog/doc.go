// SPDX-License-Identifier: Apache-2.0

// Package accesslog writes one line for each request: as JSON, or in the combined format of Apache.
//
// What clients send stands in these lines, so whoever reads a log must not be fooled by it: no value can
// end a line or a field, nor move a terminal's cursor, and each is cut where it becomes too long. Nobody
// waits for the log: what it has no room for is dropped and counted.
package accesslog
