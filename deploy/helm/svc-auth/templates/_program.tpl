{{- define "svc-auth.facts" -}}
program: svc-auth
component: auth
schema: auth
port: 7101
adminPort: 9101
callers: [gateway, audit]
{{- end -}}

{{- define "svc-auth.env" -}}
ISSUER: {{ (include "crm.group" (list . "tokens") | fromYaml).issuer | default "" | quote }}
MFA_ISSUER: {{ .Values.mfaIssuer | quote }}
WEB_URL: {{ .Values.webUrl | quote }}
MAIL_FROM: {{ (include "crm.group" (list . "mail") | fromYaml).from | default "" | quote }}
{{- end -}}

{{- define "svc-auth.files" -}}
- setting: KEY_ENCRYPTION_KEY_FILE
  secret: {{ include "crm.need" (list . .Values.keyEncryptionKey.existingSecret "set keyEncryptionKey.existingSecret to the Secret with the key that encrypts signing keys; `deploy/helm/make-secrets` makes one") }}
  key: {{ .Values.keyEncryptionKey.key }}
{{- end -}}

{{- define "svc-auth.folders" -}}
{{- end -}}

{{- define "svc-auth.warnings" -}}
{{- if not .Values.webUrl }}
- "webUrl is empty: links in mails lead to https://crm.local."
{{- end }}
{{- end -}}
