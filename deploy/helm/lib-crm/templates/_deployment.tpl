{{- define "crm.deployment" -}}
{{- include "crm.validate" . -}}
{{- $f := include "crm.facts" . | fromYaml -}}
{{- $files := include "crm.files" . | fromYamlArray -}}
{{- $folders := include "crm.folders" . | fromYamlArray -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "crm.fullname" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
spec:
  {{- if not .Values.autoscaling.enabled }}
  replicas: {{ .Values.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ .Values.revisionHistoryLimit }}
  minReadySeconds: {{ .Values.minReadySeconds }}
  progressDeadlineSeconds: {{ .Values.progressDeadlineSeconds }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "crm.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "crm.podLabels" . | nindent 8 }}
      {{- $annotations := dict }}
      {{- with .Values.dialects.files }}
      {{- $_ := set $annotations "checksum/dialects" (toJson . | sha256sum) }}
      {{- end }}
      {{- with .Values.secretsRevision }}
      {{- $_ := set $annotations "crm/secrets-revision" (toString .) }}
      {{- end }}
      {{- with merge (deepCopy .Values.podAnnotations) $annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "crm.podBase" . | nindent 6 }}
      serviceAccountName: {{ include "crm.serviceAccountName" . }}
      terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds | default (include "crm.graceSeconds" .) }}
      {{- include "crm.spread" . | trim | nindent 6 }}
      {{- if and $f.schema (eq .Values.migrations.mode "startup") }}
      initContainers:
        - name: migrate
          {{- include "crm.migrateContainer" . | nindent 10 }}
      {{- end }}
      containers:
        - name: {{ include "crm.program" . }}
          image: {{ include "crm.image" . | quote }}
          imagePullPolicy: {{ include "crm.pullPolicy" . }}
          {{- with .Values.extraArgs }}
          args:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- if $f.port }}
            - {name: rpc, containerPort: {{ $f.port }}, protocol: TCP}
            {{- end }}
            {{- range .Values.listeners }}
            - {name: {{ .name }}, containerPort: {{ .port }}, protocol: TCP}
            {{- end }}
            - {name: admin, containerPort: {{ $f.adminPort }}, protocol: TCP}
          env:
            {{- include "crm.envList" (list . (include "crm.env" . | fromYaml) $files (include "crm.secretsDir" .)) | nindent 12 }}
          {{- include "crm.probes" . | nindent 10 }}
          {{- if .Values.drain.preStopSleepSeconds }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ .Values.drain.preStopSleepSeconds }}}
          {{- end }}
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
          securityContext:
            {{- include "crm.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - name: secrets
              mountPath: {{ include "crm.secretsDir" . }}
              readOnly: true
            {{- include "crm.folderMounts" $folders | trim | nindent 12 }}
            {{- with .Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        {{- include "crm.secretVolume" (list "secrets" $files) | nindent 8 }}
        {{- if and $f.schema (eq .Values.migrations.mode "startup") }}
        {{- include "crm.secretVolume" (list "owner" (include "crm.migrateFiles" . | fromYamlArray)) | nindent 8 }}
        {{- end }}
        {{- include "crm.folderVolumes" $folders | trim | nindent 8 }}
        {{- with .Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
