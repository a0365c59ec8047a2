{{/* Names and labels. */}}

{{/* What a chart says about its program (templates/_program.tpl of the chart): program, component, schema, port, adminPort. */}}
{{- define "crm.facts" -}}
{{- include (printf "%s.facts" (index .Chart.Annotations "crm/program")) . -}}
{{- end -}}

{{- define "crm.program" -}}
{{- index .Chart.Annotations "crm/program" -}}
{{- end -}}

{{/* The name of everything. Not the release's: the parts are releases of their own and find each other by name, and a part may move
     from the umbrella's release to its own without a new object. One installation per namespace, or fullnameOverride. */}}
{{- define "crm.fullname" -}}
{{- .Values.fullnameOverride | default (include "crm.program" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* A selector cannot be changed later: only what no upgrade, no version and no release changes. */}}
{{- define "crm.selector" -}}
app.kubernetes.io/name: {{ include "crm.fullname" . }}
app.kubernetes.io/part-of: crm
{{- end -}}

{{- define "crm.version" -}}
{{- $image := include "crm.group" (list . "image") | fromYaml -}}
{{- $image.tag | default .Chart.AppVersion | toString | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "." | trimSuffix "_" -}}
{{- end -}}

{{/* Labels of pods. Without chart and release: a new chart with the same pods restarts nobody. */}}
{{- define "crm.podLabels" -}}
{{ include "crm.selector" . }}
app.kubernetes.io/component: {{ (include "crm.facts" . | fromYaml).component }}
app.kubernetes.io/version: {{ include "crm.version" . | quote }}
{{- with .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "crm.labels" -}}
{{ include "crm.selector" . }}
app.kubernetes.io/component: {{ (include "crm.facts" . | fromYaml).component }}
app.kubernetes.io/version: {{ include "crm.version" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/* Helper pods (migration, test) must not be taken for the program by a Service, a PodDisruptionBudget or a ReplicaSet. */}}
{{- define "crm.helperLabels" -}}
app.kubernetes.io/name: {{ include "crm.fullname" (index . 0) }}-{{ index . 1 }}
app.kubernetes.io/part-of: crm
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "crm.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "crm.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* registry/repository:tag or @digest */}}
{{- define "crm.image" -}}
{{- $image := include "crm.group" (list . "image") | fromYaml -}}
{{- $name := printf "%s/%s" ($image.registry | default "localhost") $image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default .Chart.AppVersion | toString) -}}
{{- end -}}
{{- end -}}

{{- define "crm.pullPolicy" -}}
{{- (include "crm.group" (list . "image") | fromYaml).pullPolicy | default "IfNotPresent" -}}
{{- end -}}
