{{/* Where a model is, as volumes, mounts and the container that brings it. All take (dict "root" $ "model" VALUES), and put
it at /mnt/model, read-only for who reads it. */}}

{{- define "wide-deep.modelVolume" -}}
- name: model
{{- if .model.pvc }}
  persistentVolumeClaim:
    claimName: {{ .model.pvc }}
    readOnly: true
{{- else if and .model.image (eq .root.Values.model.delivery "volume") }}
  image:
    reference: {{ .model.image }}
    pullPolicy: {{ .root.Values.imagePullPolicy }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .root.Values.model.sizeLimit }}
{{- end }}
{{- end -}}

{{- define "wide-deep.modelMount" -}}
- name: model
  mountPath: /mnt/model
  readOnly: true
{{- end -}}

{{/* Empty if nothing has to be copied. */}}
{{- define "wide-deep.modelContainer" -}}
{{- if or .model.uri (and .model.image (eq .root.Values.model.delivery "copy")) -}}
- name: model
  image: {{ .model.image | default .root.Values.model.fetch.image }}
  imagePullPolicy: {{ .root.Values.imagePullPolicy }}
  {{- if .model.image }}
  command: {{ toJson .root.Values.model.copyCommand }}
  {{- else }}
  command: {{ toJson .root.Values.model.fetch.command }}
  env:
    - name: MODEL_URI
      value: {{ .model.uri | quote }}
    - name: HOME
      value: /tmp
  {{- with .root.Values.model.fetch.secretName }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  {{- end }}
  resources: {{ include "wide-deep.resources" (dict "cpu" "1" "memory" "512Mi") }}
  securityContext: {{ include "wide-deep.containerSecurity" .root }}
  volumeMounts:
    - name: model
      mountPath: /mnt/model
    - name: tmp
      mountPath: /tmp
{{- end -}}
{{- end -}}
