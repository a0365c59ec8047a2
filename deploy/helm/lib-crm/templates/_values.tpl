{{/* Reading values: own ones, then those that all parts share (global.crm), then the default. */}}

{{/* crm.group (list $ "bus"): one group of values. What is empty here comes from global.crm.<group>; where the address is given here, the
     shared Secret with the address does not count, nor the other way round. */}}
{{- define "crm.group" -}}
{{- $ctx := index . 0 -}}
{{- $name := index . 1 -}}
{{- $own := index $ctx.Values $name | default dict -}}
{{- $shared := index (($ctx.Values.global).crm | default dict) $name | default dict -}}
{{- $out := dict -}}
{{- $addressed := or $own.url $own.existingSecret -}}
{{- range $key, $value := $own -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- range $key, $value := $shared -}}
{{- if and (empty (index $out $key)) (not (and $addressed (has $key (list "url" "existingSecret")))) -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{/* crm.need (list $ value "sentence"): the value, or an end with a sentence that says what to do. */}}
{{- define "crm.need" -}}
{{- $ctx := index . 0 -}}
{{- if not (index . 1) -}}
{{- fail (printf "\n\n%s: %s\n" (include "crm.program" $ctx) (index . 2)) -}}
{{- end -}}
{{- index . 1 -}}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "crm.validate" -}}
{{- $sum := include "crm.graceSeconds" . | int -}}
{{- if and .Values.terminationGracePeriodSeconds (lt (int .Values.terminationGracePeriodSeconds) $sum) -}}
{{- fail (printf "\n\n%s: terminationGracePeriodSeconds is %d, and drain.preStopSleepSeconds, delaySeconds, seconds and marginSeconds add up to %d: pods would be killed while they finish. Leave it empty or make it %d.\n" (include "crm.program" .) (int .Values.terminationGracePeriodSeconds) $sum $sum) -}}
{{- end -}}
{{- if and .Values.dialects.files .Values.dialects.existingConfigMap -}}
{{- fail (printf "\n\n%s: give dialects.files or dialects.existingConfigMap, not both.\n" (include "crm.program" .)) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "\n\n%s: autoscaling.minReplicas is above maxReplicas.\n" (include "crm.program" .)) -}}
{{- end -}}
{{- end -}}

{{- define "crm.graceSeconds" -}}
{{- add (int .Values.drain.preStopSleepSeconds) (int .Values.drain.delaySeconds) (int .Values.drain.seconds) (int .Values.drain.marginSeconds) -}}
{{- end -}}
