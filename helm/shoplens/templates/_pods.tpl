{{/* Security of every pod, and of every container. */}}
{{- define "shoplens.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "shoplens.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What serve_app.ray_environment says of a cluster, and what a read-only root needs. */}}
{{- define "shoplens.rayEnv" -}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH, value: "67108864"}
- {name: GRPC_ENABLE_FORK_SUPPORT, value: "0"}
- {name: OMP_WAIT_POLICY, value: PASSIVE}
- {name: GOMP_SPINCOUNT, value: "3000"}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "1"}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
- {name: RAY_SERVE_LOG_TO_STDERR, value: "1"}
- {name: RAY_LOG_TO_STDERR, value: "1"}
- {name: RAY_event_stats, value: "0"}
- {name: RAY_health_check_period_ms, value: "1000"}
- {name: RAY_health_check_timeout_ms, value: "2000"}
- {name: RAY_health_check_failure_threshold, value: "4"}
- {name: RAY_ROTATION_MAX_BYTES, value: "33554432"}
- {name: RAY_ROTATION_BACKUP_COUNT, value: "2"}
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ int .Values.drainSeconds | quote }}}
{{ include "shoplens.homeEnv" . }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "shoplens.homeEnv" -}}
- {name: HOME, value: /home/shoplens}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
- {name: YOLO_CONFIG_DIR, value: /tmp/ultralytics}
{{- end -}}

{{/* Folders that a pod may write to. Takes (dict "root" $ "shm" BYTES), without shm for pods that run no Ray. */}}
{{- define "shoplens.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .root.Values.tmpSize }}}
- name: home
  emptyDir: {sizeLimit: 1Gi}
{{- if .shm }}
- name: shared-memory
  emptyDir: {medium: Memory, sizeLimit: {{ add (int64 .shm) 67108864 | quote }}}
{{- end }}
{{- end -}}

{{- define "shoplens.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/shoplens}
{{- if .shm }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- end -}}

{{/* The password of Milvus as a file. */}}
{{- define "shoplens.secretVolume" -}}
{{- if and .Values.milvus.existingSecret (not .Values.lite.enabled) }}
- name: milvus
  secret:
    secretName: {{ .Values.milvus.existingSecret }}
    items:
      - {key: {{ .Values.milvus.passwordKey }}, path: password}
{{- end }}
{{- end -}}

{{- define "shoplens.secretMount" -}}
{{- if and .Values.milvus.existingSecret (not .Values.lite.enabled) }}
- {name: milvus, mountPath: /secrets/milvus, readOnly: true}
{{- end }}
{{- end -}}

{{/* The hashes of API keys as a file, for those who answer. */}}
{{- define "shoplens.keysVolume" -}}
{{- with .Values.auth.existingSecret }}
- name: auth
  secret:
    secretName: {{ . }}
    items:
      - {key: {{ $.Values.auth.keysKey }}, path: keys}
{{- end }}
{{- end -}}

{{- define "shoplens.servingMounts" -}}
{{- include "shoplens.secretMount" . }}
{{- if .Values.auth.existingSecret }}
- {name: auth, mountPath: /secrets/auth, readOnly: true}
{{- end }}
{{- end -}}

{{/* The API key that `helm test` searches with. */}}
{{- define "shoplens.testEnv" -}}
{{- with .Values.auth.testKey }}
- name: SHOPLENS_KEY
  valueFrom:
    secretKeyRef: {name: {{ $.Values.auth.existingSecret }}, key: {{ . }}}
{{- end }}
{{- end -}}

{{/* The changes that KubeRay does not see, as an annotation that makes it see them. Takes (dict "root" $ "pool" VALUES). */}}
{{- define "shoplens.unseen" -}}
{{- $seen := dict "tolerations" .pool.tolerations -}}
{{- if and (not .root.Values.upgrades.patchBounds) (hasKey .pool "minReplicas") -}}
{{- $_ := set $seen "bounds" (list .pool.minReplicas .pool.maxReplicas) -}}
{{- end -}}
{{- $seen | toJson | sha256sum | trunc 16 -}}
{{- end -}}

{{/* Placement. Takes (dict "root" $ "pool" VALUES). */}}
{{- define "shoplens.placement" -}}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pool.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pool.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pool.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A container that Ray starts in. Takes (dict "root" $ "name" NAME "image" IMAGE "resources" VALUES "mounts" TEXT "env" LIST). */}}
{{- define "shoplens.rayContainer" -}}
name: {{ .name }}
image: {{ .image | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  {{- include "shoplens.rayEnv" .root | nindent 2 }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  {{- include "shoplens.containerSecurity" .root | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
volumeMounts:
  {{- include "shoplens.volumeMounts" (dict "shm" .root.Values.objectStoreBytes) | nindent 2 }}
  {{- with .mounts }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Ports of a head; of a worker the last two. */}}
{{- define "shoplens.headPorts" -}}
- {name: gcs-server, containerPort: 6379}
- {name: dashboard, containerPort: 8265}
- {name: client, containerPort: 10001}
- {name: as-metrics, containerPort: 44217}
- {name: dash-metrics, containerPort: 44227}
{{ include "shoplens.workerPorts" . }}
{{- end -}}

{{- define "shoplens.workerPorts" -}}
- {name: serve, containerPort: 8000}
- {name: metrics, containerPort: 8080}
{{- end -}}

{{- define "shoplens.rayStartParams" -}}
metrics-export-port: "8080"
object-store-memory: {{ int64 .Values.objectStoreBytes | quote }}
{{- end -}}

{{/*
A pod of a Job, that runs a script of files/. Takes (dict "root" $ "component" NAME "script" FILE "args" LIST "env" LIST
"account" NAME "settings" BOOL): with an account it may ask the API server, with settings it is given these.
*/}}
{{- define "shoplens.jobPod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "shoplens.selector" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  {{- if .account }}
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: true
  {{- else }}
  automountServiceAccountToken: false
  {{- end }}
  enableServiceLinks: false
  restartPolicy: Never
  {{- include "shoplens.pullSecrets" .root | nindent 2 }}
  securityContext:
    {{- include "shoplens.podSecurity" .root | nindent 4 }}
  containers:
    - name: script
      image: {{ include "shoplens.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [python, /scripts/{{ .script }}]
      args:
        {{- range .args }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- include "shoplens.homeEnv" .root | nindent 8 }}
        - {name: PYTHONUNBUFFERED, value: "1"}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      securityContext:
        {{- include "shoplens.containerSecurity" .root | nindent 8 }}
      resources:
        {{- toYaml (default $values.jobs.resources .resources) | nindent 8 }}
      volumeMounts:
        - {name: scripts, mountPath: /scripts, readOnly: true}
        {{- include "shoplens.volumeMounts" . | nindent 8 }}
        {{- if .settings }}
        - {name: settings, mountPath: /settings, readOnly: true}
        {{- include "shoplens.secretMount" .root | nindent 8 }}
        {{- end }}
        {{- with .mounts }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: scripts
      configMap: {name: {{ include "shoplens.name" (dict "root" .root "suffix" "scripts") }}}
    {{- include "shoplens.volumes" (dict "root" .root) | nindent 4 }}
    {{- if .settings }}
    - name: settings
      configMap: {name: {{ include "shoplens.name" (dict "root" .root "suffix" "settings") }}}
    {{- include "shoplens.secretVolume" .root | nindent 4 }}
    {{- end }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Resources with GPUs, as JSON. Takes (dict "resources" VALUES "name" RESOURCE "gpus" NUMBER). */}}
{{- define "shoplens.gpuResources" -}}
{{- $made := deepCopy .resources -}}
{{- if int .gpus -}}
{{- range list "requests" "limits" -}}
{{- $_ := set $made . (merge (dict $.name (toString (int $.gpus))) (default dict (get $made .))) -}}
{{- end -}}
{{- end -}}
{{- $made | toJson -}}
{{- end -}}
