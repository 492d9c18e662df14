{{/* Pods of this release by their components, as peers. Takes (dict "root" $ "components" LIST). */}}
{{- define "shoplens.peers" -}}
- podSelector:
    {{- include "shoplens.pods" . | nindent 4 }}
{{- end -}}

{{- define "shoplens.pods" -}}
matchLabels:
  app.kubernetes.io/name: {{ .root.Chart.Name }}
  app.kubernetes.io/instance: {{ .root.Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: {{ toJson .components }}}
{{- end -}}

{{- define "shoplens.dns" -}}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{- define "shoplens.toMilvus" -}}
- to:
    {{- if .Values.lite.enabled }}
    {{- include "shoplens.peers" (dict "root" . "components" (list "lite")) | nindent 4 }}
    {{- else }}
    {{- toYaml .Values.networkPolicies.milvus | nindent 4 }}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ include "shoplens.milvusPort" . }}}
{{- end -}}

{{- define "shoplens.toApiServer" -}}
- ports:
    {{- range .Values.networkPolicies.apiServerPorts }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end -}}

{{- define "shoplens.fromMetrics" -}}
{{- with .Values.networkPolicies.metrics }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- range list 8080 44217 44227 }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "shoplens.fromOperator" -}}
{{- with .Values.networkPolicies.operator }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: 8265}
{{- end }}
{{- end -}}
