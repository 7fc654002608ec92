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

{{/* The server's image of a track. */}}
{{- define "wide-deep.trackImage" -}}
{{ ternary (.root.Values.canary.image | default .root.Values.image) .root.Values.image (eq .track "canary") }}
{{- end -}}

{{/* Label of pods that answer alike: (dict "root" $ "track" "canary" "model" VALUES). */}}
{{- define "wide-deep.answers" -}}
{{- $v := .root.Values }}
{{- $server := list (include "wide-deep.trackImage" .) $v.server.command $v.server.extraArgs $v.server.env -}}
wide-deep/answers: a{{ list $server (pick .model "image" "pvc" "uri") $v.model.name $v.model.version | toJson | sha256sum | trunc 16 }}
{{- end -}}

{{/* Name of what serves a track: (dict "root" $ "track" "canary"). */}}
{{- define "wide-deep.trackName" -}}
{{ include "wide-deep.fullname" .root }}{{ if eq .track "canary" }}-canary{{ end }}
{{- end -}}
