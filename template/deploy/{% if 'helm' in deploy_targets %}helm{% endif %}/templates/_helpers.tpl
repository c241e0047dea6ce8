{{- /* Settings: those of every cluster, of the components that are switched on, and yours, in this order. */ -}}
{{- define "mcp-server.settings" -}}
{{- $settings := dict "MCP_REPLICAS" (toString .Values.replicas.max) "MCP_TRUSTED_PROXY_HOPS" "1" "MCP_TOOL_TIMEOUT_SECONDS" "30" "MCP_DRAIN_TIMEOUT_SECONDS" "35" "MCP_READINESS_DELAY_SECONDS" "5" -}}
{{- if has "gke-gateway" .Values.components }}{{- $settings = mergeOverwrite $settings (dict "MCP_TRUSTED_PROXY_HOPS" "2" "MCP_KEEP_ALIVE_SECONDS" "620") }}{{- end -}}
{{- if has "ipv6" .Values.components }}{{- $settings = mergeOverwrite $settings (dict "HOST" "::") }}{{- end -}}
{{- mergeOverwrite $settings .Values.settings | toYaml -}}
{{- end -}}

{{- define "mcp-server.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end -}}

{{- define "mcp-server.host" -}}
{{ (urlParse .Values.settings.MCP_PUBLIC_URL).hostname }}
{{- end -}}

{{- define "mcp-server.secret" -}}
{{ .Values.secretName | default (printf "%s-secrets" .Release.Name) }}
{{- end -}}

{{- /* The version of the Secret: another one with each change. `helm template` sees no cluster. */ -}}
{{- define "mcp-server.secrets" -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "mcp-server.secret" .) -}}
{{ dig "metadata" "resourceVersion" "not seen" $secret }}
{{- end -}}
