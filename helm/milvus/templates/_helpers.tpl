{{/* Prefix of all that is ours; upstream's begins with "<release>-milvus". */}}
{{- define "shoplens-milvus.fullname" -}}
{{- printf "%s-shoplens-milvus" (.Release.Name | trunc 35 | trimSuffix "-") -}}
{{- end -}}

{{/* Labels of every object of ours. Takes (dict "root" $ "component" NAME). */}}
{{- define "shoplens-milvus.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{ include "shoplens-milvus.selector" . }}
{{- end -}}

{{/* Labels that select pods of ours. Takes the same. */}}
{{- define "shoplens-milvus.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: shoplens
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* What upstream names Milvus's own objects by, and its Service. */}}
{{- define "shoplens-milvus.service" -}}
{{- with .Values.milvus -}}
{{- $name := default "milvus" .nameOverride -}}
{{- if .fullnameOverride -}}
{{- .fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name $.Release.Name -}}
{{- $.Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $.Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "shoplens-milvus.uri" -}}
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "shoplens-milvus.service" . }}:{{ dig "service" "port" 19530 .Values.milvus }}
{{- end -}}

{{/* Milvus's settings as an object. */}}
{{- define "shoplens-milvus.settings" -}}
{{- dig "extraConfigFiles" "user.yaml" "" .Values.milvus -}}
{{- end -}}

{{/*
The components as JSON, each with its pods' number, the labels that select them, and whether they vote: of voters a
minority may be away, of others a quarter or half.
Replicas that are not set are upstream's defaults.
*/}}
{{- define "shoplens-milvus.components" -}}
{{- $values := .Values.milvus -}}
{{- $release := .Release.Name -}}
{{- $milvus := dict "app.kubernetes.io/name" (default "milvus" $values.nameOverride) "app.kubernetes.io/instance" $release -}}
{{- $groups := max 1 (len (default list $values.replicaResourceGroups)) -}}
{{- $all := dict -}}
{{- if dig "cluster" "enabled" true $values -}}
{{- $_ := set $all "proxy" (dict "replicas" (dig "proxy" "replicas" 1 $values) "share" 2) -}}
{{- $_ := set $all "mixcoord" (dict "replicas" (dig "mixCoordinator" "replicas" 1 $values) "share" 2) -}}
{{- $_ := set $all "querynode" (dict "replicas" (mul $groups (dig "queryNode" "replicas" 1 $values)) "share" 4) -}}
{{- $_ := set $all "datanode" (dict "replicas" (dig "dataNode" "replicas" 1 $values) "share" 2) -}}
{{- if dig "streaming" "enabled" true $values -}}
{{- $_ := set $all "streamingnode" (dict "replicas" (mul $groups (dig "streamingNode" "replicas" 1 $values)) "share" 4) -}}
{{- end -}}
{{- if and (dig "woodpecker" "enabled" false $values) (not (dig "streaming" "woodpecker" "embedded" true $values)) -}}
{{- $_ := set $all "woodpecker" (dict "replicas" (dig "woodpecker" "replicaCount" 4 $values) "votes" true) -}}
{{- end -}}
{{- else -}}
{{- $_ := set $all "standalone" (dict "replicas" 1 "share" 2) -}}
{{- end -}}
{{- range $component, $facts := $all -}}
{{- $_ := set $facts "labels" (merge (dict "component" $component) $milvus) -}}
{{- end -}}
{{- if not (dig "externalEtcd" "enabled" false $values) -}}
{{- $_ := set $all "etcd" (dict "replicas" (dig "etcd" "replicaCount" 3 $values) "votes" true "labels" (dict "app.kubernetes.io/name" "etcd" "app.kubernetes.io/instance" $release)) -}}
{{- end -}}
{{- if dig "minio" "enabled" true $values -}}
{{- $pods := ternary (dig "minio" "replicas" 4 $values) 1 (eq "distributed" (dig "minio" "mode" "distributed" $values)) -}}
{{- $_ := set $all "minio" (dict "replicas" $pods "votes" true "labels" (dict "app" "minio" "release" $release)) -}}
{{- end -}}
{{- if dig "kafka" "enabled" false $values -}}
{{- $_ := set $all "kafka" (dict "replicas" (dig "kafka" "replicaCount" 3 $values) "votes" true "labels" (dict "app.kubernetes.io/name" "kafka" "app.kubernetes.io/instance" $release)) -}}
{{- $_ := set $all "zookeeper" (dict "replicas" (dig "kafka" "zookeeper" "replicaCount" 3 $values) "votes" true "labels" (dict "app.kubernetes.io/name" "zookeeper" "app.kubernetes.io/instance" $release)) -}}
{{- end -}}
{{- if dig "pulsarv3" "enabled" false $values -}}
{{- $pulsar := dict "bookie" (list "bookkeeper" 3 true) "broker" (list "broker" 2 false) "proxy" (list "proxy" 2 false) "zookeeper" (list "zookeeper" 3 true) "recovery" (list "autorecovery" 1 false) -}}
{{- range $component, $facts := $pulsar -}}
{{- $labels := dict "app" "pulsarv3" "release" $release "component" $component -}}
{{- $_ := set $all (printf "pulsar-%s" $component) (dict "replicas" (dig "pulsarv3" (index $facts 0) "replicaCount" (index $facts 1) $values) "votes" (index $facts 2) "share" 2 "labels" $labels) -}}
{{- end -}}
{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* Pods of a component that may be evicted at once: at least one, or a node could never be drained. */}}
{{- define "shoplens-milvus.evictable" -}}
{{- $replicas := int .replicas -}}
{{- if .votes -}}
{{- max 1 (div (sub $replicas 1) 2) -}}
{{- else -}}
{{- max 1 (div $replicas (int .share)) -}}
{{- end -}}
{{- end -}}

{{/* Peers of a network policy: all pods of upstream's in this release. */}}
{{- define "shoplens-milvus.pods" -}}
{{- $seen := dict -}}
{{- range $component, $facts := include "shoplens-milvus.components" . | fromJson -}}
{{- $_ := set $seen (omit $facts.labels "component" | toJson) true -}}
{{- end -}}
{{- range $labels, $_ := $seen }}
- podSelector: {matchLabels: {{ $labels }}}
{{- end }}
{{- if dig "pulsarv3" "enabled" false .Values.milvus }}
# The pods of Pulsar's own Jobs have no label but the one that Kubernetes gives them.
- podSelector:
    matchExpressions:
      - key: batch.kubernetes.io/job-name
        operator: In
        values: [{{ .Release.Name }}-pulsarv3-bookie-init, {{ .Release.Name }}-pulsarv3-pulsar-init]
{{- end }}
{{- end -}}

{{/* The container and volumes that both Jobs share. Takes (dict "root" $ "script" FILE). */}}
{{- define "shoplens-milvus.pod" -}}
{{- $values := .root.Values -}}
automountServiceAccountToken: false
restartPolicy: Never
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: script
    image: {{ printf "%s:%s" $values.image.repository $values.image.tag | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    command: [python, /scripts/{{ .script }}]
    args:
      - --uri={{ include "shoplens-milvus.uri" .root }}
      - --deadline-s={{ sub (int $values.jobs.deadlineSeconds) 10 }}
      {{- if $values.auth.enabled }}
      - --secret=/secret
      {{- end }}
      {{- if $values.tls.enabled }}
      - --ca=/ca/ca.crt
      {{- end }}
    env:
      - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
      - {name: HOME, value: /tmp}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    resources:
      {{- toYaml $values.jobs.resources | nindent 6 }}
    volumeMounts:
      - {name: scripts, mountPath: /scripts, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      {{- if $values.auth.enabled }}
      - {name: secret, mountPath: /secret, readOnly: true}
      {{- end }}
      {{- if $values.tls.enabled }}
      - {name: ca, mountPath: /ca, readOnly: true}
      {{- end }}
volumes:
  - name: scripts
    configMap: {name: {{ include "shoplens-milvus.fullname" .root }}-scripts}
  - name: tmp
    emptyDir: {}
  {{- if $values.auth.enabled }}
  # Kept whole, so that a key that is allowed to be missing needs no second volume.
  - name: secret
    projected:
      sources:
        - secret:
            name: {{ $values.auth.existingSecret }}
            items:
              - {key: {{ $values.auth.rootPasswordKey }}, path: root-password}
              - {key: {{ $values.auth.passwordKey }}, path: password}
        - secret:
            name: {{ $values.auth.existingSecret }}
            optional: true
            items:
              - {key: {{ $values.auth.previousRootPasswordKey }}, path: previous-root-password}
  {{- end }}
  {{- if $values.tls.enabled }}
  - name: ca
    secret:
      secretName: {{ $values.tls.caSecret }}
      items:
        - {key: {{ $values.tls.caKey }}, path: ca.crt}
  {{- end }}
{{- end -}}
