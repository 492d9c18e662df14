{{/* Name of the RayService and prefix of all else. KubeRay takes 47 characters, and no digit or dash at an end. */}}
{{- define "shoplens.fullname" -}}
{{- $name := default .Release.Name .Values.fullnameOverride | trunc 47 | trimSuffix "-" -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- $name = printf "s%s" $name | trunc 47 | trimSuffix "-" -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Name of an object beside the RayService, at most a CronJob's 52 characters. Takes (dict "root" $ "suffix" NAME). */}}
{{- define "shoplens.name" -}}
{{- printf "%s-%s" (include "shoplens.fullname" .root | trunc (sub 51 (len .suffix) | int) | trimSuffix "-") .suffix -}}
{{- end -}}

{{/* The Service that KubeRay makes once the first cluster serves. */}}
{{- define "shoplens.service" -}}
{{- include "shoplens.fullname" . }}-serve-svc
{{- end -}}

{{/* The Ray of the image. */}}
{{- define "shoplens.rayVersion" -}}
2.60.0
{{- end -}}

{{/* Labels of every object. Takes (dict "root" $ "component" NAME). */}}
{{- define "shoplens.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "shoplens.selector" . }}
{{- end -}}

{{/* Labels that select pods. Takes the same. */}}
{{- define "shoplens.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: shoplens
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "shoplens.image" -}}
{{- printf "%s:%s" .Values.image.repository .Values.image.tag -}}
{{- end -}}

{{- define "shoplens.gpuImage" -}}
{{- printf "%s:%s" (default .Values.image.repository .Values.gpuImage.repository) (default .Values.image.tag .Values.gpuImage.tag) -}}
{{- end -}}

{{- define "shoplens.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "shoplens.liteUri" -}}
http://{{ include "shoplens.name" (dict "root" . "suffix" "lite") }}:19530
{{- end -}}

{{- define "shoplens.milvusUri" -}}
{{- if .Values.lite.enabled -}}{{ include "shoplens.liteUri" . }}{{- else -}}{{ .Values.milvus.uri }}{{- end -}}
{{- end -}}

{{- define "shoplens.milvusPort" -}}
{{- default "19530" (regexFind "[0-9]+$" (regexFind ":[0-9]+/?$" (include "shoplens.milvusUri" .) | trimSuffix "/")) -}}
{{- end -}}

{{/* Lay one object over another, as JSON. Unlike sprig's merge, 0, false and "" win too. Takes (dict "under" A "over" B). */}}
{{- define "shoplens.over" -}}
{{- $made := deepCopy .under -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $made $key)) (ne $key "label_selector") (ne $key "kafka_options") -}}
{{- $_ := set $made $key (include "shoplens.over" (dict "under" (get $made $key) "over" $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $made $key $value -}}
{{- end -}}
{{- end -}}
{{- $made | toJson -}}
{{- end -}}

{{/* Every setting of Shoplens, as JSON: its defaults, what the chart knows, and `config` over both. */}}
{{- define "shoplens.settings" -}}
{{- $values := .Values -}}
{{- $models := ternary "gpu" "cpu" $values.gpuWorkers.enabled -}}
{{- $milvus := dict "uri" (include "shoplens.milvusUri" .) "more_uris" $values.milvus.moreUris -}}
{{- if and $values.milvus.existingSecret (not $values.lite.enabled) -}}
{{- $_ := set $milvus "user" $values.milvus.user -}}
{{- $_ := set $milvus "password_file" "/secrets/milvus/password" -}}
{{- end -}}
{{- $auth := dict "anonymous_search" $values.auth.anonymousSearch "public" $values.auth.public "origins" $values.auth.origins "trusted_proxies" $values.auth.trustedProxies -}}
{{- if $values.auth.existingSecret -}}
{{- $_ := set $auth "keys_file" "/secrets/auth/keys" -}}
{{- end -}}
{{- $known := dict "milvus" $milvus "auth" $auth -}}
{{- range $stage, $group := dict "ingress" "cpu" "searcher" "cpu" "detector" $models "embedder" $models -}}
{{- $_ := set $known $stage (dict "label_selector" (dict "shoplens-group" $group)) -}}
{{- end -}}
{{- $under := include "shoplens.over" (dict "under" (.Files.Get "files/settings.yaml" | fromYaml) "over" $known) | fromJson -}}
{{- include "shoplens.over" (dict "under" $under "over" $values.config) -}}
{{- end -}}

{{/* One deployment of Ray Serve, as serve_app.app makes it. Takes (dict "name" NAME "stage" SETTINGS "user" ANY "fewest" INT): it starts with 1 replica at least, unless `fewest` is less. */}}
{{- define "shoplens.deployment" -}}
{{- $stage := .stage -}}
{{- $scaling := $stage.scaling -}}
- name: {{ .name }}
  {{- with $stage.max_replicas_per_node }}
  max_replicas_per_node: {{ . }}
  {{- end }}
  ray_actor_options:
    num_cpus: {{ $stage.num_cpus }}
    num_gpus: {{ $stage.num_gpus }}
    {{- with $stage.label_selector }}
    label_selector: {{ toJson . }}
    {{- end }}
  {{- range list "max_ongoing_requests" "max_queued_requests" "health_check_period_s" "health_check_timeout_s" "graceful_shutdown_timeout_s" }}
  {{ . }}: {{ get $stage . }}
  {{- end }}
  autoscaling_config:
    min_replicas: {{ $scaling.min_replicas }}
    initial_replicas: {{ max (dig "fewest" 1 .) $scaling.min_replicas }}
    max_replicas: {{ $scaling.max_replicas }}
    policy:
      policy_function: serve_app.scaling:StagePolicy
      policy_kwargs:
        {{- omit $scaling "min_replicas" "max_replicas" | toYaml | nindent 8 }}
    metrics_interval_s: 1
    look_back_period_s: 3
    upscale_delay_s: 0
    downscale_delay_s: 0
  {{- with .user }}
  user_config: {{ toJson . }}
  {{- end }}
{{- end -}}

{{/* The whole configuration of Ray Serve: what serve_app.app.serve_document returns for the same settings. */}}
{{- define "shoplens.serveConfig" -}}
{{- $settings := include "shoplens.settings" . | fromJson -}}
{{- $http := $settings.http -}}
{{- $args := omit (deepCopy $settings) "tracing" "shadow" -}}
{{- $_ := set $args "http" (omit $http "request_timeout_s") -}}
{{- $stage := list "num_cpus" "num_gpus" "max_ongoing_requests" "max_queued_requests" "scaling" "health_check_period_s" "health_check_timeout_s" "graceful_shutdown_timeout_s" "label_selector" "max_replicas_per_node" -}}
{{- range $name := list "ingress" "detector" "embedder" "searcher" -}}
{{- $kept := get $args $name -}}
{{- range $option := $stage -}}
{{- $kept = omit $kept $option -}}
{{- end -}}
{{- $_ := set $args $name (omit $kept "params") -}}
{{- end -}}
{{- $bounds := dict -}}
{{- range $name := list "detector" "embedder" "searcher" -}}
{{- $_ := set $bounds (title $name) (pick (get $settings $name).scaling "min_replicas" "max_replicas") -}}
{{- end -}}
proxy_location: EveryNode
http_options:
  host: {{ $http.host }}
  port: {{ $http.port }}
  {{- with $http.request_timeout_s }}
  request_timeout_s: {{ . }}
  {{- end }}
logging_config: {encoding: JSON, enable_access_log: false}
{{- if $settings.tracing.exporter }}
tracing_config:
  enabled: true
  exporter_import_path: {{ $settings.tracing.exporter | quote }}
  sampling_ratio: {{ $settings.tracing.sampling_ratio }}
{{- end }}
applications:
  - name: shoplens
    route_prefix: /
    import_path: serve_app.app:build_app
    args:
      {{- toYaml $args | nindent 6 }}
    deployments:
      {{- include "shoplens.deployment" (dict "name" "Ingress" "stage" $settings.ingress "user" (dict "bounds" $bounds "shadow" $settings.shadow)) | nindent 6 }}
      {{- include "shoplens.deployment" (dict "name" "Detector" "stage" $settings.detector) | nindent 6 }}
      {{- include "shoplens.deployment" (dict "name" "Embedder" "stage" $settings.embedder) | nindent 6 }}
      {{- include "shoplens.deployment" (dict "name" "Searcher" "stage" $settings.searcher "user" $settings.searcher.params) | nindent 6 }}
      {{- $tries := dict "scaling" (dict "min_replicas" (ternary 0 1 (empty $settings.shadow.model)) "max_replicas" 1) }}
      {{- $shadow := include "shoplens.over" (dict "under" $settings.embedder "over" $tries) | fromJson }}
      {{- include "shoplens.deployment" (dict "name" "Shadow" "stage" $shadow "user" (dict "model" $settings.shadow.model) "fewest" 0) | nindent 6 }}
{{- end -}}

{{/*
What is reached from outside, as a JSON list: search, health, page, and feedback where it is taken. Never /metrics, /admin or the dashboard. What is
written by another method at the same path is left out of an Ingress, which can't tell methods apart.
*/}}
{{- define "shoplens.paths" -}}
{{- $paths := list (dict "path" "/v1/search" "type" "Exact" "method" "POST") (dict "path" "/v2/health" "type" "Prefix" "method" "GET") (dict "path" "/" "type" "Exact" "method" "GET") (dict "path" "/page" "type" "Prefix" "method" "GET") (dict "path" "/v1/images" "type" "Prefix" "method" "GET") (dict "path" "/v1/products" "type" "Prefix" "method" "GET" "written" true) -}}
{{- if dig "feedback" "enabled" false .Values.config -}}
{{- $paths = append $paths (dict "path" "/v1/feedback" "type" "Exact" "method" "POST") -}}
{{- end -}}
{{- if .Values.exposure.docs -}}
{{- $paths = concat $paths (list (dict "path" "/docs" "type" "Exact" "method" "GET") (dict "path" "/openapi.json" "type" "Exact" "method" "GET")) -}}
{{- end -}}
{{- $paths | toJson -}}
{{- end -}}

{{/* Subjects of the bindings for people who operate the release. */}}
{{- define "shoplens.operators" -}}
{{- range .Values.operators.subjects }}
- kind: {{ .kind }}
  name: {{ .name | quote }}
  {{- if eq .kind "ServiceAccount" }}
  namespace: {{ default $.Release.Namespace .namespace }}
  {{- else }}
  apiGroup: rbac.authorization.k8s.io
  {{- end }}
{{- end }}
{{- end -}}
