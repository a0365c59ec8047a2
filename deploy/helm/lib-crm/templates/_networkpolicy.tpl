{{/* Who may talk to whom: clients to the gateway, the gateway to services, services to what they keep data in; everybody to DNS and the
     trace collector. The rest is refused. Kubelets' probes pass in every engine that we know. */}}

{{- define "crm.policyPeers" -}}
{{- range . }}
- podSelector:
    matchLabels:
      app.kubernetes.io/part-of: crm
      app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "crm.policyDns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* Outside systems by name: a rule each, when they are used; an empty `to` allows the port anywhere. */}}
{{- define "crm.policyOutside" -}}
{{- $ctx := index . 0 -}}
{{- range index . 1 }}
{{- $rule := index $ctx.Values.networkPolicy.egress . }}
{{- $group := include "crm.group" (list $ctx .) | fromYaml }}
{{- if and $rule.ports (or $group.url $group.existingSecret $group.endpoint) }}
- ports:
    {{- range $rule.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with $rule.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "crm.networkPolicy" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $f := include "crm.facts" . | fromYaml -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "crm.fullname" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "crm.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if $f.port }}
    - from:
        {{- include "crm.policyPeers" $f.callers | trim | nindent 8 }}
      ports:
        - {port: {{ $f.port }}, protocol: TCP}
    {{- end }}
    {{- with .Values.listeners }}
    - ports:
        {{- range . }}
        - {port: {{ .port }}, protocol: TCP}
        {{- end }}
      {{- with $.Values.networkPolicy.clients }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    - from:
        {{- include "crm.policyPeers" (list "test") | trim | nindent 8 }}
        {{- with .Values.networkPolicy.monitoring }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {port: {{ $f.adminPort }}, protocol: TCP}
    {{- with .Values.networkPolicy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    {{- include "crm.policyDns" . | nindent 4 }}
    {{- range $component, $port := $f.calls }}
    - to:
        {{- include "crm.policyPeers" (list $component) | trim | nindent 8 }}
      ports:
        - {port: {{ $port }}, protocol: TCP}
    {{- end }}
    {{- include "crm.policyOutside" (list . (keys .Values.networkPolicy.egress | sortAlpha)) | trim | nindent 4 }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "crm.fullname" . }}-test
  labels:
    {{- include "crm.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "crm.helperLabels" (list . "test") | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "crm.policyDns" . | nindent 4 }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "crm.selector" . | nindent 14 }}
      ports:
        - {port: {{ $f.adminPort }}, protocol: TCP}
        {{- range .Values.listeners }}
        - {port: {{ .port }}, protocol: TCP}
        {{- end }}
{{- if and $f.schema (eq .Values.migrations.mode "job") }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "crm.fullname" . }}-migrate
  labels:
    {{- include "crm.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "crm.helperLabels" (list . "migrate") | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "crm.policyDns" . | nindent 4 }}
    {{- include "crm.policyOutside" (list . (list "database")) | trim | nindent 4 }}
{{- end }}
{{- end -}}
{{- end -}}
