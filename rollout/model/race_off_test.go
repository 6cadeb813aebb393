// SPDX-License-Identifier: Apache-2.0

//go:build !race

package model

const raceDetector = false
