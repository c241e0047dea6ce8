"""As much of kustomize as the shipped manifests use, for machines without kubectl.

A test compares it with the real one, so it may not say something else. What it does not know, it refuses.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Manifest = dict[str, Any]

KNOWN = {
    *("apiVersion", "kind", "resources", "components", "namespace", "images", "configMapGenerator"),
    *("replacements", "patches", "configurations"),
}
CLUSTER_WIDE = {"Namespace"}
# Real names end in a hash of the content; nobody may rely on which.
SUFFIX = "-generated"


def build(folder: Path) -> list[Manifest]:
    """Return what `kubectl kustomize` would make of a folder, in no particular order."""
    built = _build(folder, [])
    for manifest in built:
        manifest.pop("$settings", None)
    return built


def _build(folder: Path, given: list[Manifest]) -> list[Manifest]:
    said = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    if unknown := said.keys() - KNOWN:
        raise NotImplementedError(f"{folder}: {unknown}")
    found = list(given)
    for name in said.get("resources", ()):
        path = folder / name
        found += _build(path, []) if path.is_dir() else list(yaml.safe_load_all(path.read_text("utf-8")))
    for name in said.get("components", ()):
        found = _build(folder / name, found)
    for generator in said.get("configMapGenerator", ()):
        _generate(folder, generator, found)
    for patch in said.get("patches", ()):
        _patch(patch, found)
    if "namespace" in said:
        _move(said["namespace"], found)
    for image in said.get("images", ()):
        _rename(image, found)
    for replacement in said.get("replacements", ()):
        _replace(replacement, found)
    return found


def _generate(folder: Path, generator: Manifest, found: list[Manifest]) -> None:
    lines = list(generator.get("literals", ()))
    for name in generator.get("envs", ()):
        lines += (folder / name).read_text("utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    data = {key: value for key, _, value in pairs}
    data |= {name: (folder / name).read_text("utf-8") for name in generator.get("files", ())}
    if generator.get("behavior") == "merge":
        (settings,) = (one for one in found if one.get("$settings") == generator["name"])
        settings["data"] |= data
        return
    name = generator["name"] + SUFFIX
    found.append(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": data,
            "$settings": generator["name"],
        }
    )
    for pod in _pods(found):
        for volume in pod.get("volumes", ()):
            if volume.get("configMap", {}).get("name") == generator["name"]:
                volume["configMap"]["name"] = name
        for container in pod["containers"]:
            for source in container.get("envFrom", ()):
                reference = source.get("configMapRef", {})
                if reference.get("name") == generator["name"]:
                    reference["name"] = name


def _patch(patch: Manifest, found: list[Manifest]) -> None:
    what = yaml.safe_load(patch["patch"])
    wanted = patch.get("target") or {"kind": what["kind"], "name": what["metadata"]["name"]}
    for manifest in found:
        group = manifest["apiVersion"].partition("/")[0]
        said = {"kind": manifest["kind"], "name": manifest["metadata"]["name"], "group": group}
        if all(re.fullmatch(value, said[key]) for key, value in wanted.items()):
            if isinstance(what, dict):
                _merge(manifest, {key: value for key, value in what.items() if key not in {"apiVersion", "kind"}})
            else:
                for change in what:
                    _change(manifest, change)


def _change(manifest: Manifest, change: Manifest) -> None:
    path = change["path"].strip("/").split("/")
    if change["op"] == "remove":
        place: Any = manifest
        for step in path[:-1]:
            place = place[int(step) if isinstance(place, list) else step]
        del place[path[-1]]
        return
    assert change["op"] == "replace"
    _set(manifest, path, change["value"])


def _merge(into: Manifest, what: Manifest) -> None:
    for key, value in what.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        elif key == "containers":
            for container in value:
                (same,) = (one for one in into[key] if one["name"] == container["name"])
                _merge(same, container)
        else:
            into[key] = value


def _move(namespace: str, found: list[Manifest]) -> None:
    for manifest in found:
        key = "name" if manifest["kind"] in CLUSTER_WIDE else "namespace"
        manifest["metadata"][key] = namespace


def _rename(image: Manifest, found: list[Manifest]) -> None:
    for pod in _pods(found):
        for container in pod["containers"]:
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"


def _replace(replacement: Manifest, found: list[Manifest]) -> None:
    source, options = replacement["source"], replacement["source"]["options"]
    (manifest,) = (one for one in found if one.get("$settings") == source["name"] and one["kind"] == source["kind"])
    value: Any = manifest
    for step in source["fieldPath"].split("."):
        value = value[step]
    value = value.split(options["delimiter"])[options["index"]]
    for target in replacement["targets"]:
        for one in found:
            if one["kind"] == target["select"]["kind"]:
                for path in target["fieldPaths"]:
                    _set(one, path.split("."), value)


def _set(manifest: Manifest, path: list[str], value: object) -> None:
    place: Any = manifest
    for step in path[:-1]:
        place = place[int(step) if isinstance(place, list) else step]
    last = int(path[-1]) if isinstance(place, list) else path[-1]
    assert place[last] is not None
    place[last] = copy.deepcopy(value)


def _pods(found: list[Manifest]) -> Iterator[Manifest]:
    for manifest in found:
        spec = manifest.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec and "spec" in spec["template"]:
            yield spec["template"]["spec"]
