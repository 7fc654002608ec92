{{- define "wide-deep.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels by which objects choose pods; (dict "root" $ "component" "server" "track" "stable"), the last may be missing. */}}
{{- define "wide-deep.selector" -}}
app.kubernetes.io/name: wide-deep
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .track }}
wide-deep/track: {{ . }}
{{- end }}
{{- end -}}

{{- define "wide-deep.labels" -}}
{{ include "wide-deep.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* Name of what serves a track: (dict "root" $ "track" "canary"). */}}
{{- define "wide-deep.trackName" -}}
{{ include "wide-deep.fullname" .root }}{{ if eq .track "canary" }}-canary{{ end }}
{{- end -}}
