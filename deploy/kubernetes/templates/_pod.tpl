{{- define "wide-deep.resources" -}}
{{- $both := dict "cpu" (toString .cpu) "memory" (toString .memory) -}}
{{- with .extra }}{{ $both = merge $both . }}{{ end -}}
{{ toJson (dict "requests" $both "limits" $both) }}
{{- end -}}

{{- define "wide-deep.containerSecurity" -}}
{{- $who := .Values.securityContext -}}
{{ toJson (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "runAsNonRoot" true "runAsUser" (int $who.runAsUser) "runAsGroup" (int $who.runAsGroup) "capabilities" (dict "drop" (list "ALL"))) }}
{{- end -}}

{{- define "wide-deep.podSecurity" -}}
{{- $who := .Values.securityContext -}}
{{ toJson (dict "runAsNonRoot" true "runAsUser" (int $who.runAsUser) "runAsGroup" (int $who.runAsGroup) "fsGroup" (int $who.runAsGroup) "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault")) }}
{{- end -}}

{{/* What all pods of the chart share. */}}
{{- define "wide-deep.podCommon" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "wide-deep.fullname" . }}
securityContext: {{ include "wide-deep.podSecurity" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Seconds that the server waits for its proxy to end. */}}
{{- define "wide-deep.proxyDrain" -}}
{{ ternary (int .Values.proxy.drainSeconds) 0 .Values.proxy.enabled }}
{{- end -}}

{{/* A pause before SIGTERM: (dict "root" $ "seconds" N). The action sleep is on by default from Kubernetes 1.30 on. */}}
{{- define "wide-deep.lifecycle" -}}
{{- if gt (int .seconds) 0 }}
lifecycle:
  preStop:
    {{- if semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version }}
    sleep:
      seconds: {{ .seconds }}
    {{- else }}
    exec:
      command: [sleep, {{ .seconds | toString | quote }}]
    {{- end }}
{{- end }}
{{- end -}}

{{/* The server's command. What changes the server needs a key, a new one at each start that nobody is told. This project's
image makes one by itself. */}}
{{- define "wide-deep.serverCommand" -}}
{{- $start := `read -r key </proc/sys/kernel/random/uuid; closed=model-repository,shared-memory,trace,logging:wide-deep-key=$key; exec "$0" "$@" --http-restricted-api=$closed --grpc-restricted-protocol=$closed` }}
{{- $keyed := eq .Values.server.kind "nvidia" }}
{{- toRawJson (concat (ternary (list "/bin/sh" "-euc" $start) list $keyed) .Values.server.command) }}
{{- end -}}

{{/* Ports of the server itself: its own behind the proxy, else those of the pod. */}}
{{- define "wide-deep.serverArgs" -}}
{{- $v := .Values }}
{{- $address := ternary "127.0.0.1" "0.0.0.0" $v.proxy.enabled }}
{{- $base := ternary 9000 8000 $v.proxy.enabled }}
- --model-repository=/mnt/model/models
- --model-control-mode=none
- --disable-auto-complete-config
- --exit-timeout-secs={{ $v.server.exitTimeoutSeconds }}
{{- range $index, $name := list "http" "grpc" "metrics" }}
- --{{ $name }}-address={{ $address }}
- --{{ $name }}-port={{ add $base $index }}
{{- end }}
- --http-thread-count={{ $v.server.httpThreads }}
{{- if and $v.server.grpcMaxConnectionAgeSeconds (not $v.proxy.enabled) }}
{{- with int $v.server.grpcMaxConnectionAgeSeconds }}
- --grpc-max-connection-age={{ mul . 1000 }}
- --grpc-max-connection-age-grace={{ mul $v.gateway.timeoutSeconds 1000 }}
{{- end }}
{{- end }}
{{- with $v.server.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}
