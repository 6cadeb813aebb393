{{/* Labels of every object. */}}
{{- define "sluice.labels" -}}
app.kubernetes.io/part-of: sluice
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* An image: takes the image's values and the root context. */}}
{{- define "sluice.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* policy or webhook. */}}
{{- define "sluice.hold" -}}
{{- if ne .Values.hold.mode "auto" -}}
{{ .Values.hold.mode }}
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
policy
{{- else -}}
webhook
{{- end -}}
{{- end }}

{{/* A generated file, with the namespace of the release in place of the one it was generated for. */}}
{{- define "sluice.file" -}}
{{ .root.Files.Get .path
  | replace "namespace: sluice-system" (printf "namespace: %s" .root.Release.Namespace)
  | replace "serviceaccount:sluice-system:" (printf "serviceaccount:%s:" .root.Release.Namespace) }}
{{- end }}

{{/* Both Deployments' pods meet Pod Security restricted. */}}
{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "sluice.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sluice.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /healthz, port: probes}
  periodSeconds: 10
{{- end }}
