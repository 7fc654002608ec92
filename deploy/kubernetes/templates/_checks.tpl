{{/* What values.schema.json can't tell: relations between values. Each message is one line, with what to do. */}}
{{- define "wide-deep.checks" -}}
{{- $v := .Values -}}
{{- if not $v.image }}
{{- fail "image is not set: give the server's image with its tag or digest, --set image=REGISTRY/NAME:TAG" }}
{{- end }}
{{- include "wide-deep.checkModel" (dict "model" $v.model "title" "model" "root" .) }}
{{- $stop := add $v.drain.preStopSeconds (include "wide-deep.proxyDrain" . | int) $v.server.exitTimeoutSeconds $v.drain.marginSeconds }}
{{- if le (int $v.terminationGracePeriodSeconds) (int $stop) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but drain.preStopSeconds (%d)%s, server.exitTimeoutSeconds (%d) and drain.marginSeconds (%d) take %d: the kubelet would kill the server with requests in flight; set it to more than %d" (int $v.terminationGracePeriodSeconds) (int $v.drain.preStopSeconds) (ternary (printf ", proxy.drainSeconds (%d)" (int $v.proxy.drainSeconds)) "" $v.proxy.enabled) (int $v.server.exitTimeoutSeconds) (int $v.drain.marginSeconds) $stop $stop) }}
{{- end }}
{{- if and (eq $v.server.kind "embedded") (not $v.proxy.enabled) }}
{{- fail "server.kind is embedded, which must not listen on a pod's address: set proxy.enabled=true, or use NVIDIA's image with server.kind=nvidia" }}
{{- end }}
{{- if and (eq $v.server.kind "embedded") $v.gpu.enabled }}
{{- fail "server.kind is embedded, whose image has no engine for GPUs: use NVIDIA's image with server.kind=nvidia (values-nvidia.yaml), or set gpu.enabled=false" }}
{{- end }}
{{- include "wide-deep.checkScaling" . }}
{{- include "wide-deep.checkCanary" . }}
{{- include "wide-deep.checkGateway" $v.gateway }}
{{- if and (gt (int $v.topologySpread.minDomains) 0) (ne $v.topologySpread.whenUnsatisfiable "DoNotSchedule") }}
{{- fail "topologySpread.minDomains counts only with topologySpread.whenUnsatisfiable=DoNotSchedule: set it, or minDomains=0" }}
{{- end }}
{{- end -}}

{{/* One model: (dict "model" VALUES "title" "model" "root" $). */}}
{{- define "wide-deep.checkModel" -}}
{{- $given := list }}
{{- range list "image" "pvc" "uri" }}
{{- if index $.model . }}{{ $given = append $given (printf "%s.%s" $.title .) }}{{ end }}
{{- end }}
{{- if not $given }}
{{- fail (printf "%s is not set: give one of %s.image, %s.pvc and %s.uri, such as --set %s.image=REGISTRY/NAME@sha256:DIGEST" .title .title .title .title .title) }}
{{- end }}
{{- if gt (len $given) 1 }}
{{- fail (printf "%s are both set: a model comes from one place, leave one of them out" (join " and " $given)) }}
{{- end }}
{{- $v := .root.Values }}
{{- if and .model.image (eq $v.model.delivery "volume") (semverCompare "<1.33.0-0" .root.Capabilities.KubeVersion.Version) }}
{{- fail (printf "model.delivery=volume needs image volumes, which Kubernetes has from 1.33 on, this is %s: set model.delivery=copy" .root.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and .model.uri $v.networkPolicy.enabled (not $v.networkPolicy.egress) }}
{{- fail (printf "%s.uri is copied over the network, but networkPolicy.egress lets the pods reach nothing: add the store (and DNS) to networkPolicy.egress, or give %s.image" .title .title) }}
{{- end }}
{{- end -}}

{{- define "wide-deep.checkGateway" -}}
{{- if .enabled }}
{{- if not .parentRefs }}
{{- fail "gateway.enabled needs gateway.parentRefs: name the Gateway, --set gateway.parentRefs[0].name=NAME" }}
{{- end }}
{{- if not (or .http .grpc) }}
{{- fail "gateway.enabled with neither gateway.http nor gateway.grpc makes no route: set one of them, or gateway.enabled=false" }}
{{- end }}
{{- if and .http .grpc }}
{{- range $one := .hostnames | default (list "*") }}
{{- range $other := $.grpcHostnames | default $.hostnames | default (list "*") }}
{{- if or (eq $one $other) (and (hasPrefix "*" $one) (hasSuffix (trimPrefix "*" $one) $other)) (and (hasPrefix "*" $other) (hasSuffix (trimPrefix "*" $other) $one)) }}
{{- fail (printf "the routes of HTTP and gRPC share a hostname (%s and %s), and a Gateway accepts only one of two such routes: give each a name of its own in gateway.hostnames and gateway.grpcHostnames, or set gateway.http=false or gateway.grpc=false" $one $other) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "wide-deep.checkScaling" -}}
{{- $a := .Values.autoscaling }}
{{- if $a.enabled }}
{{- if lt (int $a.maxReplicas) (int $a.minReplicas) }}
{{- fail (printf "autoscaling.maxReplicas is %d, less than autoscaling.minReplicas, %d: raise it, or lower minReplicas" (int $a.maxReplicas) (int $a.minReplicas)) }}
{{- end }}
{{- if not (or $a.targetQueueMilliseconds $a.targetCPU) }}
{{- fail "autoscaling has no target: set autoscaling.targetQueueMilliseconds or autoscaling.targetCPU, or autoscaling.enabled=false" }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "wide-deep.checkCanary" -}}
{{- $v := .Values }}
{{- $weight := int $v.canary.weight }}
{{- if not $v.canary.enabled }}
{{- if $weight }}
{{- fail (printf "canary.weight is %d without a canary: set canary.enabled=true and canary.model.image, or canary.weight=0" $weight) }}
{{- end }}
{{- else }}
{{- include "wide-deep.checkModel" (dict "model" $v.canary.model "title" "canary.model" "root" .) }}
{{- if and $v.autoscaling.enabled (gt (int $v.canary.replicas) (int $v.autoscaling.maxReplicas)) }}
{{- fail (printf "canary.replicas is %d, more than autoscaling.maxReplicas, %d, which is the canary's limit too: raise maxReplicas, or lower canary.replicas" (int $v.canary.replicas) (int $v.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and $weight (not $v.gateway.enabled) }}
{{- fail (printf "canary.weight is %d, but there is no route that could divide requests: set gateway.enabled=true and gateway.parentRefs, or canary.weight=0" $weight) }}
{{- end }}
{{- if and $weight $v.canary.gateBeforeTraffic .Release.IsInstall }}
{{- fail (printf "canary.weight is %d at a first installation: a canary starts with canary.weight=0 and gets traffic by a later upgrade, when the gate has passed" $weight) }}
{{- end }}
{{- if and $v.canary.gateBeforeTraffic (not $v.correctness.image) }}
{{- fail "a canary needs the gate's image: --set correctness.image=REGISTRY/NAME:TAG, this project's full image" }}
{{- end }}
{{- if and $weight $v.canary.gateBeforeTraffic }}
{{- include "wide-deep.checkRunningCanary" . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The gate of an upgrade runs before the upgrade, so it asks the canary that runs: this must be the one that gets the
traffic. Without a cluster (helm template) nothing runs, and nothing is checked. */}}
{{- define "wide-deep.checkRunningCanary" -}}
{{- $v := .Values }}
{{- with lookup "apps/v1" "Deployment" .Release.Namespace (include "wide-deep.trackName" (dict "root" . "track" "canary")) }}
{{- $model := $v.canary.model.image | default $v.canary.model.pvc | default $v.canary.model.uri }}
{{- $running := index (.spec.template.metadata.annotations | default dict) "wide-deep/model" }}
{{- if ne (toString $running) $model }}
{{- fail (printf "canary.model is %s, but the canary that runs, which the gate would ask, has %s: start the new one with canary.weight=0, and give it traffic by a later upgrade" $model $running) }}
{{- end }}
{{- $image := $v.canary.image | default $v.image }}
{{- range .spec.template.spec.containers }}
{{- if and (eq .name "triton") (ne .image $image) }}
{{- fail (printf "the canary's server is to be %s, but the canary that runs, which the gate would ask, has %s: start the new one with canary.weight=0, and give it traffic by a later upgrade" $image .image) }}
{{- end }}
{{- end }}
{{- if or (ne (int .metadata.generation) (int .status.observedGeneration)) (ne (int .status.replicas) (int .status.updatedReplicas)) }}
{{- fail (printf "pods of an earlier canary still run, which the gate could ask: wait until kubectl rollout status deployment/%s ends, then give the canary traffic" .metadata.name) }}
{{- end }}
{{- end }}
{{- end -}}
