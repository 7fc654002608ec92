{{/* Fast up, slow down. */}}
{{- define "wide-deep.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 30}
    - {type: Pods, value: 4, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownStabilizationSeconds }}
  selectPolicy: Max
  policies:
    - {type: Percent, value: 10, periodSeconds: 300}
    - {type: Pods, value: 1, periodSeconds: 300}
{{- end -}}

{{/* Milliseconds in the queue, weighted by requests: the sum of the pods' times by the sum of their requests, not a mean of
the pods' means. 0 if no request is answered and none waits; no value if requests wait and none is answered, as in servers
that hang: none of them must go. (dict "root" $ "track" "stable") */}}
{{- define "wide-deep.queueQuery" -}}
{{- $window := .root.Values.autoscaling.prometheus.window }}
{{- $of := printf `{namespace="%s",release="%s",track="%s",model="%s"}` .root.Release.Namespace .root.Release.Name .track .root.Values.model.name -}}
sum(rate(nv_inference_queue_duration_us{{ $of }}[{{ $window }}])) / (sum(rate(nv_inference_request_success{{ $of }}[{{ $window }}])) > 0) / 1000 or sum(nv_inference_pending_request_count{{ $of }}) == 0
{{- end -}}
