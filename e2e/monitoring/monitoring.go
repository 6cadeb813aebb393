// SPDX-License-Identifier: Apache-2.0

// Package monitoring writes the objects of the test bed's Prometheus: one replica that keeps its
// data in memory and scrapes the mesh's sidecars often, at prometheus.monitoring.svc:9090.
//
// It must not talk to a cluster.
package monitoring

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Where Prometheus is.
const (
	Namespace = "monitoring"
	Name      = "prometheus"
	Address   = "http://prometheus.monitoring.svc:9090"
	// Image of Prometheus in the test bed.
	Image = "sluice.dev/prometheus:dev"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// YAML returns the objects, Prometheus' configuration among them.
func YAML(image string, scrapeInterval time.Duration) ([]byte, error) {
	templates, err := template.ParseFS(manifests, "manifests/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("parse the manifests: %w", err)
	}
	var config bytes.Buffer
	err = templates.ExecuteTemplate(&config, "prometheus.yaml", map[string]string{"ScrapeInterval": scrapeInterval.String()})
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	configMap, err := yaml.Marshal(corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: Namespace},
		Data:       map[string]string{"prometheus.yaml": config.String()},
	})
	if err != nil {
		return nil, fmt.Errorf("write the ConfigMap: %w", err)
	}
	// A changed configuration is a changed pod template: Prometheus reads it at start only.
	checksum := sha256.Sum256(config.Bytes())
	var objects bytes.Buffer
	err = templates.ExecuteTemplate(&objects, "monitoring.yaml", map[string]string{
		"Image": image, "Checksum": hex.EncodeToString(checksum[:8]),
	})
	if err != nil {
		return nil, fmt.Errorf("write the objects: %w", err)
	}
	objects.WriteString("---\n")
	objects.Write(configMap)
	return objects.Bytes(), nil
}
