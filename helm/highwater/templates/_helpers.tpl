{{/* The names of this release's objects begin so. */}}
{{- define "highwater.name" -}}
{{- if contains "highwater" .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-highwater" (.Release.Name | trunc 26 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Never changes: Deployments and StatefulSets cannot change their selector. */}}
{{- define "highwater.selector" -}}
app.kubernetes.io/name: highwater
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "highwater.labels" -}}
{{ include "highwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A chart of another version alone is no reason to start a pod again. */}}
{{- define "highwater.podLabels" -}}
{{ include "highwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* Whose records in etcd. Namespace and release, and a digest of both: `a-b` in `c` is not `b-c` in `a`. */}}
{{- define "highwater.cluster" -}}
{{- if .Values.cluster.name -}}
{{- .Values.cluster.name -}}
{{- else -}}
{{- $said := printf "%s_%s" .Release.Namespace .Release.Name | replace "-" "_" | replace "." "_" -}}
{{- $digest := printf "%s/%s" .Release.Namespace .Release.Name | sha256sum | trunc 8 -}}
{{- printf "c_%s_%s" ($said | trunc 50) $digest -}}
{{- end -}}
{{- end -}}

{{/* An image of `.image`; its tag is `.tag` when it says none. */}}
{{- define "highwater.image" -}}
{{- $image := .image -}}
{{- $name := $image.repository -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $image.repository }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .tag $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "highwater.ownImage" -}}
image: {{ include "highwater.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{/* The values of a group: its own over the defaults. */}}
{{- define "highwater.group" -}}
{{- mergeOverwrite (deepCopy .root.Values.workers.defaults) (deepCopy (default dict .group)) | toYaml -}}
{{- end -}}

{{- define "highwater.isSecure" -}}
{{- if ne .Values.tls.mode "disabled" }}yes{{ end -}}
{{- end -}}

{{/* The secret with the certificate of a part: coordinator, worker, client or etcd. */}}
{{- define "highwater.tlsSecret" -}}
{{- if eq .root.Values.tls.mode "existingSecret" -}}
{{- required (printf "tls.existingSecret.%s: name the secret of its certificate" .part) (get .root.Values.tls.existingSecret .part) -}}
{{- else -}}
{{- printf "%s-%s-tls" (include "highwater.name" .root) .part -}}
{{- end -}}
{{- end -}}

{{- define "highwater.issuerRef" -}}
{{- if .Values.tls.issuerRef -}}
{{- toYaml .Values.tls.issuerRef -}}
{{- else -}}
name: {{ include "highwater.name" . }}-ca
kind: Issuer
{{- end -}}
{{- end -}}

{{/* Where the coordinators are: one name, which their certificates are for. */}}
{{- define "highwater.coordinatorHost" -}}
{{- printf "%s-coordinator.%s.svc" (include "highwater.name" .) .Release.Namespace -}}
{{- end -}}

{{- define "highwater.coordinatorUrl" -}}
{{- printf "%s://%s:7070" (ternary "https" "http" (ne .Values.tls.mode "disabled")) (include "highwater.coordinatorHost" .) -}}
{{- end -}}

{{- define "highwater.etcdHosts" -}}
{{- $name := include "highwater.name" . -}}
{{- $hosts := list -}}
{{- range $no := until (int .Values.etcd.bundled.replicas) -}}
{{- $hosts = append $hosts (printf "%s-etcd-%d.%s-etcd.%s.svc" $name $no $name $.Release.Namespace) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end -}}

{{- define "highwater.etcdUrls" -}}
{{- if eq .Values.etcd.mode "bundled" -}}
{{- $scheme := ternary "https" "http" (ne .Values.tls.mode "disabled") -}}
{{- $urls := list -}}
{{- range splitList "," (include "highwater.etcdHosts" .) -}}
{{- $urls = append $urls (printf "%s://%s:2379" $scheme .) -}}
{{- end -}}
{{- join "," $urls -}}
{{- else -}}
{{- join "," .Values.etcd.endpoints -}}
{{- end -}}
{{- end -}}

{{/* The secret by which the coordinators and etcd know each other; empty in the clear. */}}
{{- define "highwater.etcdTlsSecret" -}}
{{- if eq .Values.etcd.mode "external" -}}
{{- .Values.etcd.existingSecret.tls -}}
{{- else if include "highwater.isSecure" . -}}
{{- include "highwater.tlsSecret" (dict "root" . "part" "coordinator") -}}
{{- end -}}
{{- end -}}

{{- define "highwater.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "highwater.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where a pod may run, of a part's values. */}}
{{- define "highwater.placement" -}}
{{- $said := dict -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" -}}
{{- with get $ $key }}{{ $_ := set $said $key . }}{{ end -}}
{{- end -}}
{{- if $said }}{{ toYaml $said }}{{ end -}}
{{- end -}}

{{- define "highwater.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Startup, readiness and liveness by the admin port. */}}
{{- define "highwater.probes" -}}
startupProbe:
  httpGet: {path: /health/startup, port: admin}
  periodSeconds: 2
  failureThreshold: 150
readinessProbe:
  httpGet: {path: /health/ready, port: admin}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /health/live, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* How log lines are written; nothing where it is as ever. */}}
{{- define "highwater.logFormat" -}}
{{- if eq (default "text" .Values.logFormat) "json" -}}
- --log-format=json
{{- end -}}
{{- end -}}

{{/* Where telemetry is sent, and who sends it; after POD_NAME. */}}
{{- define "highwater.telemetryEnv" -}}
{{- with (.Values.telemetry).endpoint -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: service.instance.id=$(POD_NAME),k8s.pod.name=$(POD_NAME),k8s.namespace.name={{ $.Release.Namespace }},highwater.cluster={{ include "highwater.cluster" $ }}
{{- with $.Values.telemetry.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "highwater.tlsVolume" -}}
- name: tls
  secret:
    secretName: {{ include "highwater.tlsSecret" . }}
    defaultMode: 0440
{{- end -}}

{{/* How a coordinator, and who checks the store for it, reach etcd. */}}
{{- define "highwater.etcdArgs" -}}
- --cluster={{ include "highwater.cluster" . }}
- --etcd={{ include "highwater.etcdUrls" . }}
{{- if include "highwater.etcdTlsSecret" . }}
- --etcd-ca=/etc/highwater/etcd-tls/ca.crt
- --etcd-cert=/etc/highwater/etcd-tls/tls.crt
- --etcd-key=/etc/highwater/etcd-tls/tls.key
{{- end }}
{{- if .Values.etcd.existingSecret.auth }}
- --etcd-password-file=/etc/highwater/etcd-auth/password
{{- end }}
{{- end -}}

{{- define "highwater.etcdEnv" -}}
{{- with .Values.etcd.existingSecret.auth -}}
- name: HIGHWATER_ETCD_USER
  valueFrom: {secretKeyRef: {name: {{ . }}, key: username}}
{{- end }}
{{- end -}}

{{- define "highwater.etcdMounts" -}}
{{- if include "highwater.etcdTlsSecret" . -}}
- {name: etcd-tls, mountPath: /etc/highwater/etcd-tls, readOnly: true}
{{- end }}
{{- if .Values.etcd.existingSecret.auth }}
- {name: etcd-auth, mountPath: /etc/highwater/etcd-auth, readOnly: true}
{{- end }}
{{- end -}}

{{- define "highwater.etcdVolumes" -}}
{{- with include "highwater.etcdTlsSecret" . -}}
- name: etcd-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.etcd.existingSecret.auth }}
- name: etcd-auth
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: password, path: password}]
{{- end }}
{{- end -}}

{{/* The secret of the file of tokens; empty where nobody has any. */}}
{{- define "highwater.tokensSecret" -}}
{{- if eq .Values.coordinator.auth.mode "token" }}{{ .Values.coordinator.auth.existingSecret }}{{ end -}}
{{- end -}}

{{/* The name of a certificate that cert-manager makes for a part: the first that it is for. */}}
{{- define "highwater.certificateName" -}}
{{- if eq .part "coordinator" -}}
{{- include "highwater.coordinatorHost" .root -}}
{{- else -}}
{{- printf "%s.%s.%s" .part (include "highwater.name" .root) .root.Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* Who may do what, as JSON; empty where everybody may do everything. */}}
{{- define "highwater.roles" -}}
{{- if eq .Values.coordinator.auth.mode "token" -}}
{{- $roles := dict -}}
{{- range $role, $names := .Values.coordinator.auth.certificates }}{{ $_ := set $roles $role $names }}{{ end -}}
{{- if eq .Values.tls.mode "certManager" -}}
{{- range $role, $part := dict "viewer" "client" "worker" "worker" "coordinator" "coordinator" -}}
{{- $own := include "highwater.certificateName" (dict "root" $ "part" $part) -}}
{{- $_ := set $roles $role (append (get $roles $role | default list) $own) -}}
{{- end -}}
{{- end -}}
{{- if include "highwater.tokensSecret" . }}{{ $_ := set $roles "tokens_file" "/etc/highwater/tokens/tokens" }}{{ end -}}
{{- $roles | toJson -}}
{{- end -}}
{{- end -}}
