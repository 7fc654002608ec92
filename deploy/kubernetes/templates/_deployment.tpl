{{/* A Deployment of one track: (dict "root" $ "track" "stable" "model" VALUES "replicas" N). */}}
{{- define "wide-deep.deployment" -}}
{{- $v := .root.Values }}
{{- $labels := dict "root" .root "component" "server" "track" .track }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "wide-deep.trackName" . }}
  labels: {{- include "wide-deep.labels" $labels | nindent 4 }}
spec:
  {{- if not $v.autoscaling.enabled }}
  replicas: {{ .replicas }}
  {{- end }}
  minReadySeconds: {{ $v.minReadySeconds }}
  progressDeadlineSeconds: {{ add $v.probes.startupSeconds 600 }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: {{ $v.maxSurge }}
  selector:
    matchLabels: {{- include "wide-deep.selector" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "wide-deep.labels" $labels | nindent 8 }}
        {{- include "wide-deep.answers" . | nindent 8 }}
      annotations:
        {{- if $v.proxy.enabled }}
        # New pods for a new configuration.
        wide-deep/proxy: {{ include "wide-deep.proxyConfiguration" .root | sha256sum | quote }}
        {{- end }}
        wide-deep/model: {{ .model.image | default .model.pvc | default .model.uri | quote }}
        {{- with $v.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "wide-deep.podCommon" .root | nindent 6 }}
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      {{- with $v.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if and $v.gpu.enabled $v.gpu.runtimeClassName }}
      runtimeClassName: {{ $v.gpu.runtimeClassName }}
      {{- end }}
      {{- with (ternary (merge (dict) $v.nodeSelector $v.gpu.nodeSelector) $v.nodeSelector $v.gpu.enabled) }}
      nodeSelector: {{ toJson . }}
      {{- end }}
      {{- with (ternary (concat $v.tolerations $v.gpu.tolerations) $v.tolerations $v.gpu.enabled) }}
      tolerations: {{ toJson . }}
      {{- end }}
      {{- with $v.affinity }}
      affinity: {{ toJson . }}
      {{- end }}
      {{- if $v.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: {{ $v.topologySpread.whenUnsatisfiable }}
          {{- if and (gt (int $v.topologySpread.minDomains) 0) (hasSuffix "zone" .) }}
          minDomains: {{ $v.topologySpread.minDomains }}
          {{- end }}
          labelSelector:
            matchLabels: {{- include "wide-deep.selector" $labels | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- end }}
      {{- with include "wide-deep.modelContainer" . }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        {{- include "wide-deep.serverContainer" . | nindent 8 }}
        {{- if $v.proxy.enabled }}
        {{- include "wide-deep.proxyContainer" .root | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "wide-deep.modelVolume" . | nindent 8 }}
        - name: tmp
          emptyDir:
            sizeLimit: {{ $v.tmp }}
        - name: shm
          emptyDir:
            medium: Memory
            sizeLimit: {{ $v.sharedMemory }}
        {{- if $v.proxy.enabled }}
        - name: proxy
          configMap:
            name: {{ include "wide-deep.fullname" .root }}-proxy
        {{- end }}
{{- end -}}

{{/* Takes what the Deployment takes. */}}
{{- define "wide-deep.serverContainer" -}}
{{- $v := .root.Values }}
{{- $ready := dict "path" (printf "/v2/models/%s/ready" $v.model.name) "port" 8000 }}
{{- $gpus := ternary (dict $v.gpu.resource (toString $v.gpu.count)) (dict) $v.gpu.enabled }}
- name: triton
  image: {{ include "wide-deep.trackImage" . }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  command: {{ include "wide-deep.serverCommand" .root }}
  args: {{- include "wide-deep.serverArgs" .root | trim | nindent 4 }}
  {{- with $v.server.env }}
  env:
    {{- range $name, $value := . }}
    - name: {{ $name }}
      value: {{ $value | quote }}
    {{- end }}
  {{- end }}
  {{- if not $v.proxy.enabled }}
  {{- include "wide-deep.ports" . | nindent 2 }}
  {{- end }}
  # Without the model the server itself is not ready either; with another name in the repository it would be.
  startupProbe:
    httpGet: {{ toJson $ready }}
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: {{ $v.probes.startupSeconds }}
  readinessProbe:
    httpGet: {{ toJson $ready }}
    periodSeconds: {{ $v.probes.readinessPeriodSeconds }}
    timeoutSeconds: 2
    failureThreshold: 2
  # Slow: an overloaded server is late, and a restart would help nobody.
  livenessProbe:
    httpGet:
      path: /v2/health/live
      port: 8000
    periodSeconds: {{ $v.probes.livenessPeriodSeconds }}
    timeoutSeconds: 5
    failureThreshold: {{ $v.probes.livenessFailures }}
  {{- include "wide-deep.lifecycle" (dict "root" .root "seconds" (add $v.drain.preStopSeconds (include "wide-deep.proxyDrain" .root | int))) | nindent 2 }}
  resources: {{ include "wide-deep.resources" (dict "cpu" (int $v.resources.cpu) "memory" $v.resources.memory "extra" $gpus) }}
  securityContext: {{ include "wide-deep.containerSecurity" .root }}
  volumeMounts:
    {{- include "wide-deep.modelMount" . | nindent 4 }}
    - name: tmp
      mountPath: /tmp
    - name: shm
      mountPath: /dev/shm
{{- end -}}

{{- define "wide-deep.servicePorts" -}}
- name: http
  port: 8000
  targetPort: http
  appProtocol: http
- name: grpc
  port: 8001
  targetPort: grpc
  appProtocol: kubernetes.io/h2c
{{- end -}}

{{- define "wide-deep.ports" -}}
ports:
  - name: http
    containerPort: 8000
  - name: grpc
    containerPort: 8001
  - name: metrics
    containerPort: 8002
{{- end -}}

{{/* Before the server, which listens on loopback. Its image ends it softly (STOPSIGNAL SIGUSR1): clients with kept-alive
connections are told to open others. */}}
{{- define "wide-deep.proxyContainer" -}}
{{- $v := .Values }}
- name: proxy
  image: {{ $v.proxy.image }}
  imagePullPolicy: {{ $v.imagePullPolicy }}
  command: [haproxy, -db, -f, /etc/wide-deep/haproxy.cfg]
  {{- include "wide-deep.ports" . | nindent 2 }}
  livenessProbe:
    tcpSocket:
      port: 8000
    periodSeconds: {{ $v.probes.livenessPeriodSeconds }}
    timeoutSeconds: 5
    failureThreshold: {{ $v.probes.livenessFailures }}
  {{- include "wide-deep.lifecycle" (dict "root" . "seconds" $v.drain.preStopSeconds) | nindent 2 }}
  resources: {{ include "wide-deep.resources" $v.proxy.resources }}
  securityContext: {{ include "wide-deep.containerSecurity" . }}
  volumeMounts:
    - name: proxy
      mountPath: /etc/wide-deep
      readOnly: true
    - name: tmp
      mountPath: /tmp
{{- end -}}

{{- define "wide-deep.proxyConfiguration" -}}
{{ tpl (.Files.Get "files/haproxy.cfg") . }}
{{- end -}}
