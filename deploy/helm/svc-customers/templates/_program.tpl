{{- define "svc-customers.facts" -}}
program: svc-customers
component: customers
schema: customers
port: 7102
adminPort: 9102
callers: [gateway, audit]
{{- end -}}

{{- define "svc-customers.env" -}}
{{- end -}}

{{- define "svc-customers.files" -}}
{{- end -}}

{{- define "svc-customers.folders" -}}
{{- end -}}

{{- define "svc-customers.warnings" -}}
{{- end -}}
