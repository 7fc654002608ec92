{{/* The gate's pod: the kept rows through the server over both protocols, one after the other, then the comparison. Each is
a command whose exit code ends the pod. (dict "root" $ "service" NAME) */}}
{{- define "wide-deep.gatePod" -}}
{{- $service := .service }}
{{- with .root }}
{{- $v := .Values }}
{{- $model := ternary $v.canary.model $v.model $v.canary.enabled }}
{{- $rows := "/mnt/model/gate/reference" }}
{{- include "wide-deep.podCommon" . }}
restartPolicy: Never
activeDeadlineSeconds: {{ $v.correctness.deadlineSeconds }}
initContainers:
  {{- with include "wide-deep.modelContainer" (dict "root" . "model" $model) }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- range list (list "grpc" 8001) (list "http" 8000) }}
  - name: {{ first . }}
    command: {{ toJson (concat (list "python" "run_inference_on_triton.py" (printf "--server-url=%s://%s:%d" (first .) $service (last .)) (printf "--model-name=%s" $v.model.name) (printf "--model-version=%s" $v.model.version) "--dataloader=dump_dataloader.py" (printf "--rows-dir=%s" $rows) (printf "--batch-size=%d" (int $v.correctness.batchSize)) "--dump-labels" (printf "--output-dir=/work/%s" (first .)) "--request-rows") ($v.correctness.requestRows | toStrings)) }}
    {{- include "wide-deep.gateContainer" $.root | nindent 4 }}
  {{- end }}
containers:
  - name: compare
    {{- $limits := list }}
    {{- range $name, $limit := $v.correctness.maxMetricLoss }}
    {{- $limits = append $limits (printf "--max-metric-loss=%s=%v" $name $limit) }}
    {{- end }}
    command: {{ toJson (concat (list "python" "check_correctness.py" (printf "--reference-dump-dir=%s" $rows) "--dump-dir=/work/grpc" "--dump-dir=/work/http" (printf "--metrics=%s" $v.correctness.metrics) "--csv=/work/correctness.csv" (printf "--atol=%v" $v.correctness.atol) (printf "--rtol=%v" $v.correctness.rtol)) $limits $v.correctness.extraArgs) }}
    {{- include "wide-deep.gateContainer" . | nindent 4 }}
volumes:
  {{- include "wide-deep.modelVolume" (dict "root" . "model" $model) | nindent 2 }}
  - name: tmp
    emptyDir:
      sizeLimit: 1Gi
  - name: work
    emptyDir:
      sizeLimit: 4Gi
{{- end }}
{{- end -}}

{{- define "wide-deep.gateContainer" -}}
image: {{ .Values.correctness.image }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
workingDir: /opt/wide_deep
env:
  - name: HOME
    value: /work
  - name: PYTHONDONTWRITEBYTECODE
    value: "1"
resources: {{ include "wide-deep.resources" .Values.correctness.resources }}
securityContext: {{ include "wide-deep.containerSecurity" . }}
volumeMounts:
  {{- include "wide-deep.modelMount" . | nindent 2 }}
  - name: tmp
    mountPath: /tmp
  - name: work
    mountPath: /work
{{- end -}}
