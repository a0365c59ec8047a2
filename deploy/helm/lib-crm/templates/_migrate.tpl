{{/* `<service> migrate`. A plain Job, not a hook: a hook before the installation waits for objects that are not made yet, a hook after it
     is never reached by --wait, because the pods wait for the schema. Pods are simply not ready until the Job has done its work. */}}

{{- define "crm.migrateContainer" -}}
image: {{ include "crm.image" . | quote }}
imagePullPolicy: {{ include "crm.pullPolicy" . }}
args: [migrate]
env:
  {{- $log := include "crm.group" (list . "log") | fromYaml }}
  {{- $env := dict "LOG_LEVEL" ($log.level | default "info") "LOG_FORMAT" ($log.format | default "json") }}
  {{- include "crm.envList" (list . $env (include "crm.migrateFiles" . | fromYamlArray) "/run/secrets/owner") | nindent 2 }}
resources:
  {{- toYaml .Values.migrations.resources | nindent 2 }}
securityContext:
  {{- include "crm.containerSecurity" . | nindent 2 }}
volumeMounts:
  - name: owner
    mountPath: /run/secrets/owner
    readOnly: true
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The part of the Job that cannot be changed once it is made; its hash is in the Job's name. */}}
{{- define "crm.migrateSpec" -}}
backoffLimit: {{ .Values.migrations.backoffLimit }}
activeDeadlineSeconds: {{ .Values.migrations.activeDeadlineSeconds }}
template:
  metadata:
    labels:
      {{- include "crm.helperLabels" (list . "migrate") | nindent 6 }}
    {{- with .Values.migrations.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "crm.podBase" . | nindent 4 }}
    serviceAccountName: {{ include "crm.serviceAccountName" . }}
    restartPolicy: Never
    {{- with .Values.affinity }}
    affinity:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      - name: migrate
        {{- include "crm.migrateContainer" . | nindent 8 }}
    volumes:
      {{- include "crm.secretVolume" (list "owner" (include "crm.migrateFiles" . | fromYamlArray)) | nindent 6 }}
      {{- with .Values.extraVolumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}

{{- define "crm.migrateJob" -}}
{{- if eq .Values.migrations.mode "job" -}}
{{- $spec := include "crm.migrateSpec" . -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "crm.fullname" . }}-migrate-{{ printf "%s %v" $spec .Values.migrations.attempt | sha256sum | trunc 8 }}
  labels:
    {{- include "crm.helperLabels" (list . "migrate") | nindent 4 }}
    app.kubernetes.io/version: {{ include "crm.version" . | quote }}
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/managed-by: {{ .Release.Service }}
    helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
spec:
  {{- with .Values.migrations.ttlSecondsAfterFinished }}
  ttlSecondsAfterFinished: {{ . }}
  {{- end }}
  {{- $spec | nindent 2 }}
{{- end -}}
{{- end -}}
