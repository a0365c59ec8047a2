{{/* The smaller objects. */}}

{{/* Headless: the gateway asks for all addresses and balances by itself; only pods that are ready are in it. The admin port is in no
     other Service, so that nothing public leads to it. */}}
{{- define "crm.headlessService" -}}
{{- $f := include "crm.facts" . | fromYaml -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "crm.headlessName" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
    crm/metrics: "true"
spec:
  type: ClusterIP
  clusterIP: None
  selector:
    {{- include "crm.selector" . | nindent 4 }}
  ports:
    {{- if $f.port }}
    - {name: rpc, port: {{ $f.port }}, targetPort: rpc, protocol: TCP}
    {{- end }}
    - {name: admin, port: {{ $f.adminPort }}, targetPort: admin, protocol: TCP}
{{- end -}}

{{/* A program without a port for calls is reached by clients through a Service of its own name. */}}
{{- define "crm.headlessName" -}}
{{- include "crm.fullname" . -}}{{- if not (include "crm.facts" . | fromYaml).port -}}-headless{{- end -}}
{{- end -}}

{{- define "crm.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "crm.serviceAccountName" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/* maxUnavailable, not minAvailable: with one replica a node can still be drained. Sick pods never block a drain. */}}
{{- define "crm.pdb" -}}
{{- if .Values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "crm.fullname" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "crm.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- define "crm.hpa" -}}
{{- if .Values.autoscaling.enabled -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "crm.fullname" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "crm.fullname" . }}
  minReplicas: {{ .Values.autoscaling.minReplicas }}
  maxReplicas: {{ .Values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: AverageValue
          averageValue: {{ .Values.autoscaling.cpu | quote }}
    {{- with .Values.autoscaling.extraMetrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownSeconds }}
{{- end -}}
{{- end -}}

{{- define "crm.serviceMonitor" -}}
{{- if .Values.serviceMonitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "crm.fullname" . }}
  labels:
    {{- include "crm.labels" . | nindent 4 }}
    {{- with .Values.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  jobLabel: app.kubernetes.io/name
  selector:
    matchLabels:
      {{- include "crm.selector" . | nindent 6 }}
      crm/metrics: "true"
  endpoints:
    - port: admin
      path: /metrics
      interval: {{ .Values.serviceMonitor.interval }}
{{- end -}}
{{- end -}}

{{- define "crm.dialects" -}}
{{- if .Values.dialects.files -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "crm.fullname" . }}-dialects
  labels:
    {{- include "crm.labels" . | nindent 4 }}
binaryData:
  {{- range $name, $content := .Values.dialects.files }}
  {{ $name }}: {{ $content | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* `helm test`: the program asks another instance of itself; there is no shell in the image. */}}
{{- define "crm.test" -}}
{{- $f := include "crm.facts" . | fromYaml -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "crm.fullname" . }}-test
  labels:
    {{- include "crm.helperLabels" (list . "test") | nindent 4 }}
    app.kubernetes.io/instance: {{ .Release.Name }}
    helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "crm.podBase" . | nindent 2 }}
  serviceAccountName: {{ include "crm.serviceAccountName" . }}
  restartPolicy: Never
  containers:
    {{- range $name, $url := include "crm.testUrls" . | fromYaml }}
    - name: {{ $name }}
      image: {{ include "crm.image" $ | quote }}
      imagePullPolicy: {{ include "crm.pullPolicy" $ }}
      args: [health, {{ $url | quote }}]
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {memory: 64Mi}
      securityContext:
        {{- include "crm.containerSecurity" $ | nindent 8 }}
    {{- end }}
{{- end -}}

{{/* The admin port, and each listener with its first dialect through the Service (plain HTTP only: it speaks no TLS). */}}
{{- define "crm.testUrls" -}}
ready: http://{{ include "crm.headlessName" . }}:{{ (include "crm.facts" . | fromYaml).adminPort }}/readyz
{{- if .Values.listeners }}
{{- if not .Values.tls.existingSecret }}
{{- range .Values.listeners }}
{{ .name }}: http://{{ include "crm.fullname" $ }}:{{ .port }}/openapi/{{ first .dialects }}.json
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
