{{- define "svc-audit.facts" -}}
program: svc-audit
component: audit
schema: audit
port: 7103
adminPort: 9103
callers: [gateway]
calls: {auth: 7101, customers: 7102, sales: 7104}
{{- end -}}

{{- define "svc-audit.env" -}}
{{- $services := list -}}
{{- range $name, $url := .Values.services -}}
{{- $services = append $services (printf "%s=%s" $name $url) -}}
{{- end -}}
SERVICES: {{ join " " $services | quote }}
MAIL_FROM: {{ (include "crm.group" (list . "mail") | fromYaml).from | default "" | quote }}
{{- if .Values.checkpoints.enabled }}
AUDIT_CHECKPOINT_FILE: /var/lib/crm/checkpoints/$(POD_NAME).jsonl
{{- end }}
{{- end -}}

{{- define "svc-audit.files" -}}
- setting: AUDIT_SIGNING_KEY_FILE
  secret: {{ include "crm.need" (list . .Values.signingKey.existingSecret "set signingKey.existingSecret to the Secret with the seed that signs the log; `deploy/helm/make-secrets` makes one") }}
  key: {{ .Values.signingKey.key }}
- setting: AUDIT_MASTER_KEY_FILE
  secret: {{ include "crm.need" (list . .Values.masterKey.existingSecret "set masterKey.existingSecret to the Secret with the key that wraps the keys of people's data; `deploy/helm/make-secrets` makes one") }}
  key: {{ .Values.masterKey.key }}
{{- end -}}

{{- define "svc-audit.folders" -}}
{{- if .Values.checkpoints.enabled }}
- name: checkpoints
  path: /var/lib/crm/checkpoints
  source:
    {{- toYaml (.Values.checkpoints.volume | default (dict "emptyDir" (dict "sizeLimit" "64Mi"))) | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "svc-audit.warnings" -}}
{{- if not .Values.checkpoints.enabled }}
- "checkpoints.enabled is false: ends of the audit log's chains are in the database only, and who owns it can rewrite the log."
{{- else if not .Values.checkpoints.volume }}
- "checkpoints.volume is empty: copies of the signed ends of the audit log go with the pod; give a volume that stays, best of somebody else."
{{- end }}
{{- end -}}
