{{/* The RayJob of an import, with a cluster of its own. */}}
{{- define "shoplens.rayJob" -}}
{{- $import := .Values.import -}}
{{- $labels := include "shoplens.selector" (dict "root" . "component" "import") -}}
apiVersion: ray.io/v1
kind: RayJob
metadata:
  generateName: {{ include "shoplens.fullname" . | trunc 39 | trimSuffix "-" }}-i-
  labels:
    {{- include "shoplens.labels" (dict "root" . "component" "import") | nindent 4 }}
spec:
  # The shell that submits takes it apart again.
  entrypoint: {{ printf "shoplens import %s --config /settings/settings.yaml --address auto" (include "shoplens.words" (prepend $import.arguments $import.manifest)) | quote }}
  submissionMode: K8sJobMode
  shutdownAfterJobFinishes: true
  ttlSecondsAfterFinished: 60
  activeDeadlineSeconds: {{ int $import.deadlineSeconds }}
  backoffLimit: 0
  submitterPodTemplate:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      restartPolicy: Never
      {{- include "shoplens.pullSecrets" . | nindent 6 }}
      securityContext:
        {{- include "shoplens.podSecurity" . | nindent 8 }}
      containers:
        - name: submitter
          image: {{ include "shoplens.image" . | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          env:
            {{- include "shoplens.homeEnv" . | nindent 12 }}
          securityContext:
            {{- include "shoplens.containerSecurity" . | nindent 12 }}
          resources:
            {{- toYaml .Values.jobs.resources | nindent 12 }}
          volumeMounts:
            {{- include "shoplens.volumeMounts" (dict) | nindent 12 }}
      volumes:
        {{- include "shoplens.volumes" (dict "root" .) | nindent 8 }}
  rayClusterSpec:
    rayVersion: {{ include "shoplens.rayVersion" . | quote }}
    enableInTreeAutoscaling: false
    authOptions: {mode: token}
    headGroupSpec:
      rayStartParams:
        num-cpus: "0"
        dashboard-host: 0.0.0.0
        {{- include "shoplens.rayStartParams" . | nindent 8 }}
      template:
        {{- include "shoplens.importPod" (dict "root" . "name" "ray-head" "ports" "shoplens.headPorts" "image" (include "shoplens.image" .) "resources" $import.headResources) | nindent 8 }}
    workerGroupSpecs:
      - groupName: import
        replicas: {{ int $import.workers }}
        minReplicas: {{ int $import.workers }}
        maxReplicas: {{ int $import.workers }}
        rayStartParams:
          {{- include "shoplens.rayStartParams" . | nindent 10 }}
        template:
          {{- include "shoplens.importPod" (dict "root" . "name" "ray-worker" "ports" "shoplens.workerPorts" "image" (ternary (include "shoplens.gpuImage" .) (include "shoplens.image" .) (gt (int $import.gpus) 0)) "resources" (include "shoplens.gpuResources" (dict "resources" $import.workerResources "name" .Values.gpuWorkers.resourceName "gpus" $import.gpus) | fromJson)) | nindent 10 }}
{{- end -}}

{{/* Words for a shell. */}}
{{- define "shoplens.words" -}}
{{- range $at, $word := . -}}
{{- if $at }} {{ end -}}
{{- if regexMatch "^[-a-zA-Z0-9_./:=@%+,]+$" $word -}}{{ $word }}{{- else -}}{{ squote $word }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "shoplens.importMounts" -}}
- {name: settings, mountPath: /settings, readOnly: true}
{{- with include "shoplens.secretMount" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.import.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A pod of an import's cluster. Takes (dict "root" $ "name" NAME "ports" TEMPLATE "image" IMAGE "resources" VALUES). */}}
{{- define "shoplens.importPod" -}}
{{- $import := .root.Values.import -}}
metadata:
  labels:
    {{- include "shoplens.selector" (dict "root" .root "component" "import") | nindent 4 }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  {{- include "shoplens.pullSecrets" .root | nindent 2 }}
  {{- with $import.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $import.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $import.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "shoplens.podSecurity" .root | nindent 4 }}
  containers:
    - {{- include "shoplens.rayContainer" (dict "root" .root "name" .name "image" .image "resources" .resources "mounts" (include "shoplens.importMounts" .root) "env" $import.env) | nindent 6 }}
      ports:
        {{- include .ports .root | nindent 8 }}
  volumes:
    {{- include "shoplens.volumes" (dict "root" .root "shm" .root.Values.objectStoreBytes) | nindent 4 }}
    - name: settings
      configMap: {name: {{ include "shoplens.name" (dict "root" .root "suffix" "settings") }}}
    {{- include "shoplens.secretVolume" .root | nindent 4 }}
    {{- with $import.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
