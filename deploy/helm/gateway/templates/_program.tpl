{{- define "gateway.facts" -}}
program: gateway
component: gateway
schema: ""
adminPort: 9100
calls: {auth: 7101, customers: 7102, audit: 7103, sales: 7104}
{{- end -}}

{{- define "gateway.env" -}}
{{- $tokens := include "crm.group" (list . "tokens") | fromYaml -}}
{{- $listen := list -}}
{{- range .Values.listeners -}}
{{- $listen = append $listen (printf "0.0.0.0:%v=%s" .port (join "," .dialects)) -}}
{{- end -}}
{{- $services := list -}}
{{- range $name, $url := .Values.services -}}
{{- $services = append $services (printf "%s=%s" $name $url) -}}
{{- end -}}
LISTEN: {{ join " " $listen | quote }}
SERVICES: {{ join " " $services | quote }}
TRUSTED_PROXIES: {{ join "," .Values.trustedProxies | quote }}
RATE_LIMIT_SCALE: {{ .Values.rateLimitScale | toString | quote }}
ISSUER: {{ $tokens.issuer | default "" | quote }}
AUDIENCE: {{ $tokens.audience | default "" | quote }}
EXPORT_DIR: /tmp
{{- end -}}

{{- define "gateway.files" -}}
{{- with .Values.tls.existingSecret }}
- {setting: TLS_CERT_FILE, secret: {{ . }}, key: tls.crt}
- {setting: TLS_KEY_FILE, secret: {{ . }}, key: tls.key}
{{- end }}
{{- end -}}

{{- define "gateway.folders" -}}
{{- end -}}

{{- define "gateway.warnings" -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not .Values.trustedProxies) }}
- "trustedProxies is empty behind an ingress: all clients have its address and share one rate limit; give the network of its pods."
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tls) }}
- "the Ingress has no tls: passwords and tokens travel in clear unless something in front of it ends TLS."
{{- end }}
{{- if and (ne .Values.service.type "ClusterIP") (not .Values.tls.existingSecret) }}
- {{ printf "service.type %s without tls.existingSecret: passwords and tokens travel in clear." .Values.service.type | quote }}
{{- end }}
{{- if eq (.Values.rateLimitScale | toString) "0" }}
- "rateLimitScale is 0: there are no rate limits."
{{- end }}
{{- end -}}

{{/* gateway.listener (list $ name): the name again, or an end when there is no such listener. */}}
{{- define "gateway.listener" -}}
{{- $found := false -}}
{{- range (index . 0).Values.listeners -}}
{{- if eq .name (index $ 1) -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "\n\ngateway: an ingress or route names the listener %s, and `listeners` has none of that name.\n" (index . 1)) -}}
{{- end -}}
{{- index . 1 -}}
{{- end -}}

{{/* What a newcomer types to see that it works. */}}
{{- define "gateway.login" -}}
{{- $first := first .Values.listeners -}}
{{- $url := printf "%s://localhost:%v" (ternary "https" "http" (not (empty .Values.tls.existingSecret))) $first.port }}
Reach it            kubectl -n {{ .Release.Namespace }} port-forward service/{{ include "crm.fullname" . }} {{ range .Values.listeners }}{{ .port }} {{ end }}&
First tenant        curl -s {{ $url }}/~saas/api/auth/register -H 'Content-Type: application/json' -d '{"email": "…", "password": "…", "tenantName": "…", "companyName": "…", "firstName": "…", "lastName": "…"}'
Log in              curl -s {{ $url }}/~saas/api/auth/login -H 'Content-Type: application/json' -d '{"email": "…", "password": "…"}'
Explore             {{ $url }}/docs
{{- range .Values.ingress.hosts }}
{{- if $.Values.ingress.enabled }}
Outside             http{{ if $.Values.ingress.tls }}s{{ end }}://{{ .host }}/docs
{{- end }}
{{- end }}
{{- end -}}
