// SPDX-License-Identifier: Apache-2.0

//go:build race

package model

// raceDetector makes everything some ten times slower.
const raceDetector = true
