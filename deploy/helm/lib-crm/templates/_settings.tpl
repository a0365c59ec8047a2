{{/* Settings of a program. What is no secret is a variable in the pod's template: it belongs to the ReplicaSet, so it is rolled out and
     rolled back with it (a ConfigMap that changes in place reaches old pods that happen to restart). What is a secret is a file. */}}

{{- define "crm.secretsDir" -}}/run/secrets/crm{{- end -}}

{{/* YAML map NAME: value of all variables. */}}
{{- define "crm.env" -}}
{{- $f := include "crm.facts" . | fromYaml -}}
{{- $log := include "crm.group" (list . "log") | fromYaml -}}
{{- $tracing := include "crm.group" (list . "tracing") | fromYaml -}}
{{- $env := dict "LOG_LEVEL" ($log.level | default "info") "LOG_FORMAT" ($log.format | default "json") -}}
{{- $_ := set $env "ADMIN_LISTEN" (printf "0.0.0.0:%v" $f.adminPort) -}}
{{- $_ := set $env "DRAIN_DELAY_SECONDS" (.Values.drain.delaySeconds | toString) -}}
{{- $_ := set $env "DRAIN_SECONDS" (.Values.drain.seconds | toString) -}}
{{- if $f.port -}}
{{- $_ := set $env "LISTEN_URL" (printf "tcp://0.0.0.0:%v" $f.port) -}}
{{- end -}}
{{- if $tracing.endpoint -}}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" $tracing.endpoint -}}
{{- $_ := set $env "OTEL_SERVICE_NAME" (include "crm.fullname" .) -}}
{{- $_ := set $env "OTEL_TRACES_SAMPLER_ARG" ($tracing.samplerArg | default "1" | toString) -}}
{{- $_ := set $env "OTEL_RESOURCE_ATTRIBUTES" (printf "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)%s" (ternary (printf ",%s" $tracing.resourceAttributes) "" (not (empty $tracing.resourceAttributes)))) -}}
{{- end -}}
{{- if or .Values.dialects.files .Values.dialects.existingConfigMap -}}
{{- $_ := set $env "DIALECT_DIR" "/etc/crm/dialects" -}}
{{- end -}}
{{- if .Values.database -}}
{{- range $setting, $key := dict "DB_READ_CONNS" "readConnections" "DB_WRITE_CONNS" "writeConnections" "DB_WORKERS" "workers" -}}
{{- with index $.Values.database $key -}}
{{- $_ := set $env $setting (toString .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $setting, $group := dict "BUS_URL" "bus" "COUNTERS_URL" "counters" "MAIL_URL" "mail" "BLOB_URL" "blobs" -}}
{{- if hasKey $.Values $group -}}
{{- $g := include "crm.group" (list $ $group) | fromYaml -}}
{{- if $g.url -}}
{{- $_ := set $env $setting $g.url -}}
{{- else if and (eq $group "mail") (not $g.existingSecret) -}}
{{- $_ := set $env $setting "folder:/tmp/outbox" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values "blobs" -}}
{{- with (include "crm.group" (list . "blobs") | fromYaml).accessKey -}}
{{- $_ := set $env "BLOB_ACCESS_KEY" . -}}
{{- end -}}
{{- end -}}
{{- range $setting, $value := include (printf "%s.env" (include "crm.program" .)) . | fromYaml -}}
{{- if not (empty $value) -}}
{{- $_ := set $env $setting (toString $value) -}}
{{- end -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* YAML list of {setting, secret, key}: files of the running program. */}}
{{- define "crm.files" -}}
{{- $files := list -}}
{{- $envelope := include "crm.group" (list . "envelopeKey") | fromYaml -}}
{{- $secret := include "crm.need" (list . $envelope.existingSecret "set envelopeKey.existingSecret (or global.crm.envelopeKey.existingSecret) to the Secret with the key of calls between programs; `deploy/helm/make-secrets` makes one") -}}
{{- $files = append $files (dict "setting" "ENVELOPE_KEY_FILE" "secret" $secret "key" ($envelope.key | default "envelope.key")) -}}
{{- if .Values.database -}}
{{- $files = append $files (dict "setting" "DATABASE_URL_FILE" "secret" (include "crm.databaseSecret" .) "key" .Values.database.keys.app) -}}
{{- $files = append $files (dict "setting" "RELAY_DATABASE_URL_FILE" "secret" (include "crm.databaseSecret" .) "key" .Values.database.keys.relay) -}}
{{- end -}}
{{- range $setting, $group := dict "BUS_URL" "bus" "COUNTERS_URL" "counters" "MAIL_URL" "mail" -}}
{{- if hasKey $.Values $group -}}
{{- $g := include "crm.group" (list $ $group) | fromYaml -}}
{{- if and $g.url $g.existingSecret -}}
{{- fail (printf "\n\n%s: give %s.url or %s.existingSecret, not both.\n" (include "crm.program" $) $group $group) -}}
{{- end -}}
{{- if eq $group "bus" -}}
{{- $_ := include "crm.need" (list $ (or $g.url $g.existingSecret) "set bus.url to the event bus, such as kafka://kafka:9092, or bus.existingSecret to a Secret that holds the address when it has a password (global.crm.bus sets it for all programs)") -}}
{{- end -}}
{{- if $g.existingSecret -}}
{{- $files = append $files (dict "setting" (printf "%s_FILE" $setting) "secret" $g.existingSecret "key" ($g.key | default "url")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values "blobs" -}}
{{- $blobs := include "crm.group" (list . "blobs") | fromYaml -}}
{{- if hasPrefix "s3:" ($blobs.url | default "") -}}
{{- $secret := include "crm.need" (list . $blobs.existingSecret "blobs.url is an S3 bucket: set blobs.existingSecret to the Secret with the secret access key and blobs.accessKey to its id") -}}
{{- $_ := include "crm.need" (list . $blobs.accessKey "blobs.url is an S3 bucket: set blobs.accessKey to the id of the access key whose secret is in blobs.existingSecret") -}}
{{- $files = append $files (dict "setting" "BLOB_SECRET_KEY_FILE" "secret" $secret "key" ($blobs.key | default "secret-key")) -}}
{{- end -}}
{{- end -}}
{{- with include (printf "%s.files" (include "crm.program" .)) . | fromYamlArray -}}
{{- $files = concat $files . -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- define "crm.databaseSecret" -}}
{{- include "crm.need" (list . .Values.database.existingSecret (printf "set database.existingSecret to a Secret with the keys %s, %s and %s: PostgreSQL as %s_app, %s_owner and %s_relay; `deploy/helm/make-secrets` makes one" .Values.database.keys.app .Values.database.keys.owner .Values.database.keys.relay (include "crm.facts" . | fromYaml).schema (include "crm.facts" . | fromYaml).schema (include "crm.facts" . | fromYaml).schema)) -}}
{{- end -}}

{{/* Settings and files of `migrate`: the owner's connection is in no other container. */}}
{{- define "crm.migrateFiles" -}}
{{- $files := list (dict "setting" "OWNER_DATABASE_URL_FILE" "secret" (include "crm.databaseSecret" .) "key" .Values.database.keys.owner) -}}
{{- with .Values.database.keys.busOwner -}}
{{- $files = append $files (dict "setting" "BUS_OWNER_DATABASE_URL_FILE" "secret" (include "crm.databaseSecret" $) "key" .) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{/* crm.envList (list $ env files dir): as a container has them. */}}
{{- define "crm.envList" -}}
{{- $ctx := index . 0 -}}
{{- $dir := index . 3 -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- range $name, $value := index . 1 }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range index . 2 }}
- name: {{ .setting }}
  value: {{ printf "%s/%s" $dir (include "crm.fileName" .setting) }}
{{- end }}
{{- with $ctx.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* ENVELOPE_KEY_FILE: envelope-key */}}
{{- define "crm.fileName" -}}
{{- . | trimSuffix "_FILE" | lower | replace "_" "-" -}}
{{- end -}}

{{/* crm.secretVolume (list name files): one read-only folder of files out of several Secrets. No subPath: a Secret that changes arrives. */}}
{{- define "crm.secretVolume" -}}
- name: {{ index . 0 }}
  projected:
    defaultMode: 0440
    sources:
      {{- range index . 1 }}
      - secret:
          name: {{ .secret }}
          items:
            - key: {{ .key | quote }}
              path: {{ include "crm.fileName" .setting }}
      {{- end }}
{{- end -}}
