// SPDX-License-Identifier: Apache-2.0

// Package sampleapp writes the sample application as a team would keep it in Git: a kustomization
// with a Namespace, a Deployment of podinfo (e2e/tools/podinfo), its Service and its Canary, and if
// asked for an autoscaler and a disruption budget. Versions differ by arguments only.
//
// It must not talk to a cluster or a repository.
package sampleapp

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"strconv"
	"text/template"
	"time"
)

// Image of the sample application in the test bed.
const Image = "sluice.dev/podinfo:dev"

//go:embed manifests/*.yaml
var manifests embed.FS

// App is one state of the sample application.
type App struct {
	Name      string // podinfo when empty
	Namespace string
	Image     string // Image when empty
	// Version that the application says it has.
	Version string
	// Arguments beside the version, such as --fault-error-percent=20.
	Arguments []string
	// Replicas in Git; with Autoscale, the autoscaler's minimum.
	Replicas int
	// Stopped is an application of no replicas.
	Stopped bool
	// Canary is left out when nil.
	Canary *Canary
	// Autoscale by processor use, when not nil.
	Autoscale *Autoscale
	// Disruption budget, when not nil.
	Disruption *Disruption
}

// Canary as Git has it.
type Canary struct {
	Steps []Step
	// Strategy are the fields of the spec that say what the canary gets, as YAML, in place of Steps.
	Strategy []string
	// SuccessRate as it is written in YAML: 99 or "99.9"; 99 when empty.
	SuccessRate string
	P99         time.Duration // 500ms when 0
	Drain       time.Duration // the API's default when 0
	Prometheus  string        // address of the metrics; the controller's when empty
}

// Step of a Canary.
type Step struct {
	Weight int
	Hold   time.Duration
}

// Autoscale says when the autoscaler acts.
type Autoscale struct {
	Max         int
	Utilization int // percent of the requested processor time
}

// Disruption says what evictions must leave: one of both, a number of pods or a percentage.
type Disruption struct{ MaxUnavailable, MinAvailable string }

// Faulty is the argument that makes the given share of requests fail.
func Faulty(percent float64) string {
	return "--fault-error-percent=" + strconv.FormatFloat(percent, 'f', -1, 64)
}

// Slow are the arguments that delay the given share of requests.
func Slow(percent float64, delay time.Duration) []string {
	return []string{
		"--fault-delay-percent=" + strconv.FormatFloat(percent, 'f', -1, 64),
		"--fault-delay=" + delay.String(),
	}
}

// Files returns the application's files below a directory of the repository.
func (a App) Files(directory string) (map[string][]byte, error) {
	a = a.defaulted()
	templates, err := template.ParseFS(manifests, "manifests/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("parse the manifests: %w", err)
	}
	files := map[string][]byte{}
	for name, wanted := range map[string]bool{
		"kustomization.yaml":     true,
		"namespace.yaml":         true,
		"deployment.yaml":        true,
		"service.yaml":           true,
		"canary.yaml":            a.Canary != nil,
		"autoscaler.yaml":        a.Autoscale != nil,
		"disruption-budget.yaml": a.Disruption != nil,
	} {
		if !wanted {
			continue
		}
		var out bytes.Buffer
		if err := templates.ExecuteTemplate(&out, name, a); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		files[path.Join(directory, name)] = out.Bytes()
	}
	return files, nil
}

func (a App) defaulted() App {
	if a.Name == "" {
		a.Name = "podinfo"
	}
	if a.Image == "" {
		a.Image = Image
	}
	switch {
	case a.Stopped:
		a.Replicas = 0
	case a.Replicas == 0:
		a.Replicas = 2
	}
	if a.Canary != nil {
		canary := *a.Canary
		if canary.SuccessRate == "" {
			canary.SuccessRate = "99"
		}
		if canary.P99 == 0 {
			canary.P99 = 500 * time.Millisecond
		}
		a.Canary = &canary
	}
	return a
}
