"""Writes the Helm chart from the Kubernetes manifests: the same objects, with values in the places that differ.

`python scripts/helm_chart.py` writes; a test compares, so that a change of a manifest reaches the chart.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parents[1] / "template"
KUBERNETES = TEMPLATE / "deploy/{% if 'kubernetes' in deploy_targets %}kubernetes{% endif %}"
CHART = TEMPLATE / "deploy/{% if 'helm' in deploy_targets %}helm{% endif %}"

# Made by Helm itself (--create-namespace), by kustomize, or by a template of its own below.
LEFT_OUT = {"namespace.yaml", "kustomization.yaml", "name-reference.yaml"}
NAMED = re.compile(
    r"^(\s*(?:- )?(?:name|serviceAccountName|secretName|key|app\.kubernetes\.io/name): )mcp-server\b", re.MULTILINE
)
# Where a policy lets something through from, or to: clusters have it in namespaces of other names.
NAMESPACES = re.compile(
    r"(?<=kubernetes\.io/metadata\.name)(?:: [\w-]+$|\n +operator: In\n +values:\n(?: +- [\w-]+\n)+)", re.MULTILINE
)
ELSEWHERE = r'\1{{ get .Values.namespaces "\2" | default "\2" }}'
# What comes before this in a pod is in seconds and in no setting: preStop 5, closing 5, and 10 to spare.
AROUND_THE_DRAIN = 20
SECRETS = (*("MCP_API_KEYS", "MCP_API_KEY", "MCP_PROBE_KEY", "MCP_REQUEST_STATE_KEYS", "DATABASE_URL", "REDIS_URL"),)

HELPERS = """\
{{- /* Settings: those of every cluster, of the components that are switched on, and yours, in this order. */ -}}
{{- define "mcp-server.settings" -}}
{{- $settings := dict "MCP_REPLICAS" (toString .Values.replicas.max) %(base)s -}}
%(components)s\
{{- mergeOverwrite $settings .Values.settings | toYaml -}}
{{- end -}}

{{- define "mcp-server.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end -}}

{{- define "mcp-server.host" -}}
{{ (urlParse .Values.settings.MCP_PUBLIC_URL).hostname }}
{{- end -}}

{{- define "mcp-server.secret" -}}
{{ .Values.secretName | default (printf "%%s-secrets" .Release.Name) }}
{{- end -}}

{{- /* The version of the Secret: another one with each change. `helm template` sees no cluster. */ -}}
{{- define "mcp-server.secrets" -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "mcp-server.secret" .) -}}
{{ dig "metadata" "resourceVersion" "not seen" $secret }}
{{- end -}}
"""
# What no schema can say of values, and what Kubernetes would refuse half-way, or later.
CHECKS = """\
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$" .Release.Name) }}
{{- fail "the release's name is that of its objects: a letter, then letters, digits and hyphens, 52 at most" }}
{{- end }}
{{- if gt (int .Values.replicas.min) (int .Values.replicas.max) }}
{{- fail "replicas.min is above replicas.max" }}
{{- end }}
{{- $ingresses := list }}
{{- range list "alb" "ingress-nginx" "traefik" }}
{{- if has . $.Values.components }}{{ $ingresses = append $ingresses . }}{{ end }}
{{- end }}
{{- if gt (len $ingresses) 1 }}
{{- fail (printf "components: one way in at a time, not %s" (join " and " $ingresses)) }}
{{- end }}
"""
SETTINGS = (
    CHECKS
    + """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-settings
data:
  {{- include "mcp-server.settings" . | nindent 2 }}
"""
)
# A changed setting and a changed Secret change the pods, so both reach them with the next `helm upgrade`.
ROLLS = """\
      annotations:
        mcp-server/settings: {{ include "mcp-server.settings" . | sha256sum }}
        mcp-server/secrets: {{ include "mcp-server.secrets" . | quote }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
"""
# A cluster's own: for the pods of the server and of the job.
POD = """\
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
"""
ENV = """\
          {{- with .Values.env }}
          env: {{- toYaml . | nindent 12 }}
          {{- end }}
"""
ROLE = """\
  {{- with .Values.serviceAccountAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
"""
INGRESS = """\
    {{- with .Values.ingress.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
"""
RELOADER = """\
  {{- if has "reloader" .Values.components }}
  annotations:
    secret.reloader.stakater.com/reload: {{ .Release.Name }}-secrets
  {{- end }}
"""
STACK = """\
  {{- if has "kube-prometheus-stack" .Values.components }}
  labels:
    release: {{ .Values.prometheusRelease }}
  {{- end }}
"""
HOOK = """\
  annotations:
    # Before the server, and in place of the job of the last release; Argo CD takes these as PreSync.
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
"""
COMMAND = """\
            {{- with .Values.migrations.command }}
            {{- toYaml . | nindent 12 }}
            {{- else }}
USUAL            {{- end }}
"""
JOB_SETTINGS = """\
          # The ConfigMap and the account of the server come after this hook.
          env:
            {{- range $name, $value := include "mcp-server.settings" . | fromYaml }}
            - name: {{ $name }}
              value: {{ $value | quote }}
            {{- end }}
            {{- with .Values.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          envFrom:
"""
# OpenShift gives each namespace users of its own.
USER = "        runAsUser: 10001\n        runAsGroup: 10001\n"
# One place of one file: what is there, and what the chart says instead. Each must be there.
CHANGES: dict[str, list[tuple[str, str]]] = {
    "base/deployment.yaml": [
        ("spec:\n  # No", RELOADER + "spec:\n  # No"),
        ("    spec:\n      serviceAccountName", ROLLS + "    spec:\n      serviceAccountName"),
        (
            "      # preStop 5 + readiness delay 5 + drain 35 + closing 5 = 50, and 10 to spare.\n",
            ("      # preStop 5 + readiness delay + drain + closing 5, and 10 to spare.\n"
            '      {{- $settings := include "mcp-server.settings" . | fromYaml }}\n'),
        ),
        (
            "terminationGracePeriodSeconds: 60",
            (f"terminationGracePeriodSeconds: {{{{ add {AROUND_THE_DRAIN} (ceil $settings.MCP_READINESS_DELAY_SECONDS)"
            " (ceil $settings.MCP_DRAIN_TIMEOUT_SECONDS) }}"),
        ),
        (
            "          # The overlay names the real image; this one does not exist, so forgetting fails at once.\n",
            "",
        ),
        ("          envFrom:\n", ENV + "          envFrom:\n"),
    ],
    "base/service-account.yaml": [("automount", ROLE + "automount")],
    "base/horizontal-pod-autoscaler.yaml": [
        ("minReplicas: 2", "minReplicas: {{ .Values.replicas.min }}"),
        ("maxReplicas: 6", "maxReplicas: {{ .Values.replicas.max }}"),
    ],
    "components/gateway/http-route.yaml": [
        ("    - name: public\n", "    - name: {{ .Values.gateway.name }}\n"),
        ("      namespace: gateway\n", "      namespace: {{ .Values.gateway.namespace }}\n"),
    ],
    "components/gateway/network-policy.yaml": [
        ("kubernetes.io/metadata.name: gateway", "kubernetes.io/metadata.name: {{ .Values.gateway.namespace }}"),
    ],
    "components/external-secret/external-secret.yaml": [
        ("kind: ClusterSecretStore", "kind: {{ .Values.externalSecret.kind }}"),
        ("name: production", "name: {{ .Values.externalSecret.store }}"),
        ("key: {{ .Release.Name }}", "key: {{ .Values.externalSecret.key | default .Release.Name }}"),
    ],
    "components/monitoring/service-monitor.yaml": [("spec:\n", STACK + "spec:\n")],
    "components/monitoring/prometheus-rule.yaml": [("spec:\n  groups", STACK + "spec:\n  groups")],
    "components/migrations/job.yaml": [
        ("      serviceAccountName: {{ .Release.Name }}\n", ""),
        ("another tool's command goes into your overlay", "or migrations.command of the values"),
        (
            "          envFrom:\n            - configMapRef:\n                name: {{ .Release.Name }}-settings\n",
            JOB_SETTINGS,
        ),
    ],
}  # fmt: skip


def chart() -> dict[str, str]:
    """Return every file of the chart that is made from the manifests, by its path in the chart."""
    files = {"templates/_helpers.tpl": helpers(), "templates/settings.yaml": SETTINGS}
    for file in sorted((KUBERNETES / "base").glob("*.yaml")):
        if file.name not in LEFT_OUT:
            files[f"templates/{file.name}"] = template(file)
    closed = "templates/network-policy.yaml"
    files[closed] = f"{{{{- if .Values.networkPolicies }}}}\n{files[closed]}{{{{- end }}}}\n"
    names = sorted(folder.name for folder in (KUBERNETES / "components").iterdir() if folder.is_dir())
    for name in names:
        for file in sorted((KUBERNETES / "components" / name).glob("*.yaml")):
            if file.name not in LEFT_OUT:
                wanted = f'has "{name}" .Values.components'
                if "network-policy" in file.name:
                    wanted = f"and ({wanted}) .Values.networkPolicies"
                text = f"{{{{- if {wanted} }}}}\n{template(file)}{{{{- end }}}}\n"
                files[f"templates/components/{name}/{file.name}"] = text
    files["values.schema.json"] = json.dumps(schema(names), indent=2) + "\n"
    return files


def template(file: Path) -> str:
    """Return one manifest as a template."""
    place = str(file.relative_to(KUBERNETES))
    text = file.read_text("utf-8").replace("{{", '{{ "{{" }}')
    text = NAMED.sub(r"\1{{ .Release.Name }}", text)
    if place == "components/migrations/job.yaml":
        start, end = text.index("  annotations:\n"), text.index("spec:\n")
        text = text[:start] + HOOK + text[end:]
        start, end = text.index("            - python\n"), text.index("          envFrom:\n")
        text = text[:start] + COMMAND.replace("USUAL", text[start:end]) + text[end:]
    for found, put in CHANGES.get(place, ()):
        if text.count(found) != 1:
            raise ValueError(f"{place}: {found!r} is there {text.count(found)} times")
        text = text.replace(found, put)
    text = text.replace("image: mcp-server:0.0.0", 'image: {{ include "mcp-server.image" . }}')
    text = re.sub(r"mcp\.example\.com", '{{ include "mcp-server.host" . }}', text)
    text = text.replace(
        USER, f'        {{{{- if not (has "openshift" .Values.components) }}}}\n{USER}        {{{{- end }}}}\n'
    )
    text = text.replace("{{ .Release.Name }}-secrets", '{{ include "mcp-server.secret" . }}')
    text = NAMESPACES.sub(lambda found: re.sub("(^: |- )([\\w-]+)$", ELSEWHERE, found[0], flags=re.MULTILINE), text)
    text = text.replace("      enableServiceLinks: false\n", "      enableServiceLinks: false\n" + POD)
    if file.name == "ingress.yaml":
        text = text.replace("spec:\n", INGRESS + "spec:\n", 1)
        text = re.sub(
            "ingressClassName: (.+)", r'ingressClassName: {{ .Values.ingress.className | default "\1" }}', text
        )
        named = '{{ .Values.ingress.tlsSecret | default (printf "%s-tls" .Release.Name) }}'
        text = text.replace("{{ .Release.Name }}-tls", named)
    if place in {"base/deployment.yaml", "components/migrations/job.yaml"}:
        for what, indent in (("volumeMounts", 12), ("volumes", 8)):
            last = re.search(rf"^ +{what}:\n(?: +.*\n)*?(?=^ {{0,{indent - 1}}}\S|\Z)", text, re.MULTILINE)
            if last is None:
                raise ValueError(f"{place}: no {what}")
            more = (
                f"{' ' * indent}{{{{- with .Values.{what} }}}}\n{' ' * indent}{{{{- toYaml . | nindent {indent} }}}}\n"
            )
            text = text[: last.end()] + more + f"{' ' * indent}{{{{- end }}}}\n" + text[last.end() :]
    if place == "base/deployment.yaml":
        start, end = text.index("          resources:\n"), text.index("          securityContext:\n")
        text = text[:start] + "          resources: {{- .Values.resources | toYaml | nindent 12 }}\n" + text[end:]
    return text


def helpers() -> str:
    """Return the named templates, with the settings that kustomize merges."""
    base = {name: value for name, value in literals("base").items() if name != "MCP_REPLICAS"}
    components = [
        f'{{{{- if has "{folder.name}" .Values.components }}}}'
        f"{{{{- $settings = mergeOverwrite $settings (dict {pairs(merged)}) }}}}{{{{- end -}}}}\n"
        for folder in sorted((KUBERNETES / "components").iterdir())
        if (merged := literals(f"components/{folder.name}"))
    ]
    return HELPERS % {"base": pairs(base), "components": "".join(components)}


def literals(folder: str) -> dict[str, str]:
    """Return the settings that a folder's kustomization states."""
    said: dict[str, Any] = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text("utf-8"))
    stated = [line for generator in said.get("configMapGenerator", ()) for line in generator["literals"]]
    return dict(line.split("=", 1) for line in stated)


def pairs(settings: dict[str, str]) -> str:
    """Return settings as arguments of `dict`."""
    return " ".join(f'"{name}" "{value}"' for name, value in settings.items())


def schema(components: list[str]) -> dict[str, Any]:
    """Return what values may be: an unknown name is a mistake, and a secret does not belong into them."""

    def object_of(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": False,
            "required": list(required),
            "properties": properties,
        }

    text = {"type": "string", "minLength": 1}
    # Said once, because an update could patch the wrong one of two places that look alike.
    texts, named = {"$ref": "#/definitions/texts"}, {"$ref": "#/definitions/named"}
    definitions = {
        "texts": {"type": "object", "additionalProperties": {"type": "string"}},
        "named": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    }
    secret_by_reference = {
        "if": {"properties": {"name": {"enum": list(SECRETS)}}},
        "then": {"required": ["valueFrom"]},
    }
    count = {"type": "integer", "minimum": 1}
    # All of them, because `--reuse-values` takes the defaults of the chart before: what that lacks would be nothing,
    # and `networkPolicies` would be off.
    defaults: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": definitions} | object_of(
        tuple(defaults),
        image=object_of(
            ("repository",),
            repository=text,
            tag={"type": "string"},
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        )
        | {"anyOf": [{"properties": {one: {"minLength": 1}}, "required": [one]} for one in ("tag", "digest")]},
        settings={
            "type": "object",
            "required": ["MCP_PUBLIC_URL", "MCP_AUTH"],
            "properties": {"MCP_PUBLIC_URL": {"type": "string", "pattern": "^https://[^/?#@]+/?$"}},
            "additionalProperties": {"type": "string"},
            "propertyNames": {"pattern": "^[A-Z][A-Z0-9_]*$", "not": {"enum": list(SECRETS)}},
        },
        components={"type": "array", "uniqueItems": True, "items": {"enum": components}},
        replicas=object_of(tuple(defaults["replicas"]), min=count, max=count),
        resources={"type": "object"},
        secretName={"type": "string"},
        imagePullSecrets=named,
        env={"allOf": [named, {"items": secret_by_reference}]},
        volumes=named,
        volumeMounts=named,
        nodeSelector=texts,
        tolerations={"type": "array"},
        podAnnotations=texts,
        serviceAccountAnnotations=texts,
        networkPolicies={"type": "boolean"},
        namespaces=texts,
        ingress=object_of(
            tuple(defaults["ingress"]), className={"type": "string"}, annotations=texts, tlsSecret={"type": "string"}
        ),
        externalSecret=object_of(
            tuple(defaults["externalSecret"]),
            kind={"enum": ["ClusterSecretStore", "SecretStore"]},
            store=text,
            key={"type": "string"},
        ),
        gateway=object_of(tuple(defaults["gateway"]), name=text, namespace=text),
        migrations=object_of((), command={"type": "array", "items": {"type": "string"}}),
        prometheusRelease=text,
        **{"global": {"type": "object"}},
    )


def main() -> int:
    """Write the chart, and take away what is no longer part of it."""
    files = chart()
    for old in (CHART / "templates").rglob("*"):
        if old.is_file() and str(old.relative_to(CHART)) not in files:
            old.unlink()
    for name, text in files.items():
        path = CHART / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
