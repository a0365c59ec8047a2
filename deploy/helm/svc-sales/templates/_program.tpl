{{- define "svc-sales.facts" -}}
program: svc-sales
component: sales
schema: sales
port: 7104
adminPort: 9104
callers: [gateway, audit]
{{- end -}}

{{- define "svc-sales.env" -}}
{{- end -}}

{{- define "svc-sales.files" -}}
{{- end -}}

{{- define "svc-sales.folders" -}}
{{- end -}}

{{- define "svc-sales.warnings" -}}
{{- end -}}
