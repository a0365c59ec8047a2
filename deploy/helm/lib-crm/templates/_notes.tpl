{{/* Parts of NOTES.txt: what to type next, and what is not as it should be in production. */}}

{{- define "crm.warnings" -}}
{{- range include "crm.warningList" . | fromYamlArray }}
WARNING: {{ . }}
{{- end }}
{{- end -}}

{{- define "crm.warningList" -}}
{{- $out := list -}}
{{- $image := include "crm.group" (list . "image") | fromYaml -}}
{{- if and (eq ($image.tag | default "" | toString) "latest") (not .Values.image.digest) -}}
{{- $out = append $out "image tag `latest` says nothing about what runs, and a rollback brings back the same; give a version or a digest." -}}
{{- end -}}
{{- if and (lt (int .Values.replicas) 2) (not .Values.autoscaling.enabled) -}}
{{- $out = append $out "one replica: a lost node or a drained one is an outage of up to a minute; set replicas: 2." -}}
{{- end -}}
{{- if not .Values.networkPolicy.enabled -}}
{{- $out = append $out "networkPolicy.enabled is false: every pod of the cluster reaches this one." -}}
{{- end -}}
{{- if not .Values.podDisruptionBudget.enabled -}}
{{- $out = append $out "podDisruptionBudget.enabled is false: a node drain may take all pods at once." -}}
{{- end -}}
{{- if hasKey .Values "counters" -}}
{{- $counters := include "crm.group" (list . "counters") | fromYaml -}}
{{- if and (not $counters.existingSecret) (hasPrefix "memory" ($counters.url | default "memory:")) (or .Values.autoscaling.enabled (gt (int .Values.replicas) 1)) -}}
{{- $out = append $out "counters are in each pod's memory: with several pods every rate limit and lock-out is that many times looser; set counters to a Redis." -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values "mail" -}}
{{- $mail := include "crm.group" (list . "mail") | fromYaml -}}
{{- if not (or $mail.url $mail.existingSecret) -}}
{{- $out = append $out "there is no mail server: mails (invitations, passwords, alerts) are files in the pod's /tmp and go with it; set mail.existingSecret." -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values "blobs" -}}
{{- if not (include "crm.group" (list . "blobs") | fromYaml).url -}}
{{- $out = append $out "blobs.url is empty: uploads are answered with 503." -}}
{{- end -}}
{{- end -}}
{{- with include (printf "%s.warnings" (include "crm.program" .)) . | fromYamlArray -}}
{{- $out = concat $out . -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{- define "crm.notes" -}}
{{- $name := include "crm.fullname" . -}}
{{- $schema := (include "crm.facts" . | fromYaml).schema -}}
{{ $name }} {{ include "crm.version" . }} is in namespace {{ .Release.Namespace }}.

See it come up      kubectl -n {{ .Release.Namespace }} rollout status deployment/{{ $name }}
{{- if and $schema (eq .Values.migrations.mode "job") }}
Its migration       kubectl -n {{ .Release.Namespace }} logs -l app.kubernetes.io/name={{ $name }}-migrate --tail=20
{{- end }}
Why is it not ready kubectl -n {{ .Release.Namespace }} port-forward deployment/{{ $name }} {{ (include "crm.facts" . | fromYaml).adminPort }} & curl localhost:{{ (include "crm.facts" . | fromYaml).adminPort }}/readyz
Ask itself          helm -n {{ .Release.Namespace }} test {{ .Release.Name }}
Upgrade             helm -n {{ .Release.Namespace }} upgrade {{ .Release.Name }} <this chart> --reset-then-reuse-values --set image.tag=<new> --wait
Back                helm -n {{ .Release.Namespace }} rollback {{ .Release.Name }} --wait
{{- if and $schema (eq .Values.migrations.mode "none") }}

migrations.mode is none: the pods are not ready until somebody has run `{{ include "crm.program" . }} migrate` of this version.
{{- end }}
{{- include "crm.warnings" . }}
{{- end -}}
