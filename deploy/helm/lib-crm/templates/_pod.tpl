{{/* Parts of a pod. */}}

{{/* The restricted profile of Pod Security Standards. */}}
{{- define "crm.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "crm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What all pods of a chart have in common: Deployment, migration, test. Not the variables that Kubernetes makes of Services: a Service
     named like a setting would set it. */}}
{{- define "crm.podBase" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "crm.podSecurity" . | nindent 2 }}
{{- with concat .Values.imagePullSecrets (((.Values.global).crm).imagePullSecrets | default list) | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A liveness probe never waits for a dependency: /livez answers while the schema is missing, /readyz says so. The start is over when
     /livez answers, so nothing kills a pod that waits for its migration. */}}
{{- define "crm.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: {{ .Values.probes.startupSeconds }}
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: {{ .Values.probes.livenessPeriodSeconds }}
  timeoutSeconds: 3
  failureThreshold: {{ .Values.probes.livenessFailures }}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: {{ .Values.probes.readinessPeriodSeconds }}
  timeoutSeconds: 2
  failureThreshold: {{ .Values.probes.readinessFailures }}
{{- end -}}

{{- define "crm.spread" -}}
{{- if .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
{{- else if .Values.spread }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "crm.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Folders beside the root, which is read-only: YAML list of {name, path, readOnly, source}. */}}
{{- define "crm.folders" -}}
{{- $folders := list (dict "name" "tmp" "path" "/tmp" "source" (dict "emptyDir" (dict "sizeLimit" .Values.tmpSizeLimit))) -}}
{{- if or .Values.dialects.files .Values.dialects.existingConfigMap -}}
{{- $name := .Values.dialects.existingConfigMap | default (printf "%s-dialects" (include "crm.fullname" .)) -}}
{{- $folders = append $folders (dict "name" "dialects" "path" "/etc/crm/dialects" "readOnly" true "source" (dict "configMap" (dict "name" $name))) -}}
{{- end -}}
{{- if hasKey .Values "blobs" -}}
{{- $blobs := include "crm.group" (list . "blobs") | fromYaml -}}
{{- if hasPrefix "file:" ($blobs.url | default "") -}}
{{- $_ := include "crm.need" (list . $blobs.volume "blobs.url is a folder: set blobs.volume to a volume that the pods of gateway, svc-auth, svc-customers and svc-sales share, such as {persistentVolumeClaim: {claimName: crm-blobs}}, or use s3://") -}}
{{- $folders = append $folders (dict "name" "blobs" "path" ($blobs.url | trimPrefix "file:") "source" $blobs.volume) -}}
{{- end -}}
{{- end -}}
{{- with include (printf "%s.folders" (include "crm.program" .)) . | fromYamlArray -}}
{{- $folders = concat $folders . -}}
{{- end -}}
{{- toYaml $folders -}}
{{- end -}}

{{- define "crm.folderMounts" -}}
{{- range . }}
- name: {{ .name }}
  mountPath: {{ .path }}
  {{- if .readOnly }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end -}}

{{- define "crm.folderVolumes" -}}
{{- range . }}
- name: {{ .name }}
  {{- toYaml .source | nindent 2 }}
{{- end }}
{{- end -}}
