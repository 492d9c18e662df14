{{/* The pods of a load test find each other by this Service. */}}
{{- define "shoplens.loadName" -}}
{{- include "shoplens.name" (dict "root" . "suffix" "load") -}}
{{- end -}}

{{- define "shoplens.loadImage" -}}
{{- printf "%s:%s" (default .Values.image.repository .Values.loadTest.image.repository) .Values.loadTest.image.tag -}}
{{- end -}}

{{/* What each pod is told: all the same, for the first one knows by its number that it leads. */}}
{{- define "shoplens.loadArguments" -}}
{{- $test := .Values.loadTest -}}
- --url=http://{{ include "shoplens.service" . }}:8000
- --leader=$(JOB_NAME)-0.{{ include "shoplens.loadName" . }}
- --senders={{ int $test.workers }}
- --shape={{ $test.shape }}
- --rate={{ $test.rate }}
{{- if $test.peakRate }}
- --peak-rate={{ $test.peakRate }}
{{- end }}
- --seconds={{ int $test.seconds }}
- --seed={{ int $test.seed }}
- --wait-s={{ int $test.startSeconds }}
- --goal-p99-ms={{ $test.goalP99Ms }}
- --goal-refused={{ $test.goalRefused }}
{{- if $test.photos }}
- --photos=/photos
{{- end }}
{{- end -}}

{{/* A pod that leads or sends. */}}
{{- define "shoplens.loadPod" -}}
{{- $test := .Values.loadTest -}}
metadata:
  labels:
    {{- include "shoplens.selector" (dict "root" . "component" "load") | nindent 4 }}
spec:
  serviceAccountName: {{ include "shoplens.loadName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  # The Service that gives each pod a name of its own.
  subdomain: {{ include "shoplens.loadName" . }}
  {{- include "shoplens.pullSecrets" . | nindent 2 }}
  {{- with $test.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $test.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "shoplens.selector" (dict "root" . "component" "load") | nindent 10 }}
  securityContext:
    {{- include "shoplens.podSecurity" . | nindent 4 }}
  containers:
    - name: load
      image: {{ include "shoplens.loadImage" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [python, -m, scripts.load_pod]
      args:
        {{- include "shoplens.loadArguments" . | nindent 8 }}
      env:
        {{- include "shoplens.homeEnv" . | nindent 8 }}
        - {name: PYTHONUNBUFFERED, value: "1"}
        - {name: JOB_NAME, valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}}
        {{- with $test.key }}
        - name: SHOPLENS_KEY
          valueFrom:
            secretKeyRef: {name: {{ $.Values.auth.existingSecret }}, key: {{ . }}}
        {{- end }}
      securityContext:
        {{- include "shoplens.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml $test.resources | nindent 8 }}
      volumeMounts:
        {{- include "shoplens.volumeMounts" (dict) | nindent 8 }}
        {{- if $test.photos }}
        - {name: photos, mountPath: /photos, readOnly: true}
        {{- end }}
  volumes:
    {{- include "shoplens.volumes" (dict "root" .) | nindent 4 }}
    {{- with $test.photos }}
    - name: photos
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end -}}
