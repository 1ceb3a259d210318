"""deploy/kubernetes: what kubectl makes of it is valid, keeps the worker's limits, and gains it no right."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from storage.blobs.s3_place import is_s3
from storage.catalog.address import Address
from tests.support.clients import WITH_SERVICES, missing
from tests.support.deployment import DEPLOY, PAGE, SNIPPETS
from tests.support.workplace import BIN
from worker.series import SERIES
from worker.settings import Settings

Document = dict[str, Any]
FOLDER = DEPLOY / "kubernetes"
OLDEST, NEWEST = "1.30", "1.37"
# Kinds that a cluster learns by an operator.
OF_OTHERS = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}
ENDPOINTS = "MEDIA_WEBHOOK_ENDPOINTS"
_GOODBYE_S = 7  # after the images in flight
SERVED = (("with-http", "overlays/postgres-s3", "http"), ("with-http-on-claim", "base", "http-on-claim"))
SERVED_NAMES = tuple(name for name, _, _ in SERVED)
each_served = pytest.mark.parametrize("name", [*SERVED_NAMES, "our-cluster"])
each = pytest.mark.parametrize("name", ["base", "overlays/postgres-s3", "monitored", "our-cluster"])


def kustomize(folder: Path) -> str:
    if not (BIN / "kubectl").exists():
        missing("no kubectl: SERVICES=1 make setup")
    done = subprocess.run([BIN / "kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each kustomization is: those of the project, base with the component, and the one of the page."""
    place = tmp_path_factory.mktemp("kubernetes")
    shutil.copytree(FOLDER, place / "deploy/kubernetes")
    monitored = {"resources": ["../deploy/kubernetes/base"]} | {
        "components": ["../deploy/kubernetes/components/monitoring"]
    }
    (place / "monitored").mkdir()
    (place / "monitored/kustomization.yaml").write_text(json.dumps(monitored))
    snippet = SNIPPETS["kubernetes"].replace("kubectl ", f"{BIN}/kubectl ")
    if (BIN / "kubectl").exists():
        subprocess.run(["sh", "-euc", snippet], cwd=place, check=True, capture_output=True)
    for name, resource, component in SERVED:
        (place / name).mkdir()
        served = {"resources": [f"../deploy/kubernetes/{resource}"]} | {
            "components": [f"../deploy/kubernetes/components/{component}"]
        }
        (place / name / "kustomization.yaml").write_text(json.dumps(served))
    (place / "with-endpoints").mkdir()
    parts = [f"../deploy/kubernetes/components/{part}" for part in ("http-on-claim", "webhook-endpoints")]
    told = {"resources": ["../deploy/kubernetes/base"], "components": parts}
    (place / "with-endpoints/kustomization.yaml").write_text(json.dumps(told))
    own = {name: place / "deploy/kubernetes" / name for name in ("base", "overlays/postgres-s3")}
    given = ("monitored", "our-cluster", "with-endpoints", *SERVED_NAMES)
    return own | {name: place / name for name in given}


@pytest.fixture
def documents(folders: dict[str, Path], name: str) -> list[Document]:
    """What is of the workers, or of all."""
    return [document for document in _documents(folders[name]) if not is_of_serve(document)]


@pytest.fixture
def served(folders: dict[str, Path], name: str) -> list[Document]:
    """What is of the HTTP server."""
    return [document for document in _documents(folders[name]) if is_of_serve(document)]


def is_of_serve(document: Document) -> bool:
    return bool(document["metadata"]["name"] == "media-serve")


@cache
def _documents(folder: Path) -> list[Document]:
    return list(yaml.safe_load_all(kustomize(folder)))


def one(documents: Iterable[Document], kind: str) -> Document:
    [found] = [document for document in documents if document["kind"] == kind]
    return found


def pod(documents: Iterable[Document]) -> Document:
    return cast(Document, one(documents, "Deployment")["spec"]["template"]["spec"])


def container(documents: Iterable[Document]) -> Document:
    [only] = pod(documents)["containers"]
    return cast(Document, only)


def settings(documents: list[Document]) -> dict[str, str]:
    """What the settings are: the map's, and a value for each that a pod has from elsewhere."""
    given = dict(one(documents, "ConfigMap")["data"])
    examples = {
        "MEDIA_REDIS_URL": "redis://worker:x@redis:6379/0",
        "MEDIA_CATALOG_URL": "postgresql+asyncpg://media:x@postgres/media",
        "MEDIA_MEMORY_MB": "512",
    }
    return given | {entry["name"]: examples[entry["name"]] for entry in container(documents)["env"]}


def test_the_page_names_the_versions_that_are_tested() -> None:
    assert f"Kubernetes, {OLDEST} to {NEWEST}" in PAGE


@each
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@WITH_SERVICES
def test_everything_is_valid_in_the_oldest_and_the_newest_version(
    documents: list[Document], version: str
) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        missing("no kubernetes-validate: SERVICES=1 make setup")
    for document in documents:
        if document["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(document, version, strict=True)


@each_served
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_http_server_is_valid_too(served: list[Document], version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    assert {document["kind"] for document in served} == {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    for document in served:
        kubernetes_validate.validate(document, version, strict=True)


@each_served
def test_the_http_server_has_its_limits_no_right_and_the_settings_of_the_workers(
    served: list[Document], documents: list[Document]
) -> None:
    resources, of_container = container(served)["resources"], container(served)["securityContext"]

    assert resources["limits"] == {"cpu": "500m", "memory": "160Mi"}
    assert pod(served)["securityContext"] == pod(documents)["securityContext"]
    assert of_container == container(documents)["securityContext"]
    assert pod(served)["automountServiceAccountToken"] is False
    assert container(served)["envFrom"] == container(documents)["envFrom"]
    assert pod(served)["terminationGracePeriodSeconds"] > Settings.model_fields["shutdown_wait"].default + 10
    given = {entry["name"].removeprefix("MEDIA_").lower() for entry in container(served)["env"]}
    assert given <= Settings.model_fields.keys()


@each_served
def test_the_service_leads_to_the_http_server_and_to_no_worker(
    served: list[Document], documents: list[Document]
) -> None:
    label = {"app.kubernetes.io/name": "media-serve"}
    [port] = container(served)["ports"]
    [given] = [each["value"] for each in container(served)["env"] if each["name"] == "MEDIA_HTTP_BIND"]

    assert one(served, "Service")["spec"]["selector"] == label
    assert one(served, "Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert given == f"0.0.0.0:{port['containerPort']}"
    assert one(served, "Deployment")["spec"]["template"]["metadata"]["labels"] == label
    assert one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"] != label


@each_served
def test_an_outage_takes_no_http_server_away_from_those_who_ask(served: list[Document]) -> None:
    """It answers what it can, and says of the rest that it is away for now."""
    probes = {name: probe for name, probe in container(served).items() if name.endswith("Probe")}

    assert {probe["httpGet"]["path"] for probe in probes.values()} == {"/healthz"}
    assert len(probes) == 3


@pytest.mark.parametrize("name", SERVED_NAMES)
def test_the_http_server_of_a_catalog_in_a_file_runs_on_the_node_of_the_worker_with_its_claim(
    served: list[Document], documents: list[Document], name: str
) -> None:
    [data] = [volume for volume in pod(served)["volumes"] if volume["name"] == "data"]

    if name == "with-http":
        assert "emptyDir" in data
        return
    claim = one(documents, "PersistentVolumeClaim")["metadata"]["name"]
    assert data["persistentVolumeClaim"]["claimName"] == claim
    [near] = pod(served)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    selected = near["labelSelector"]["matchLabels"]
    assert selected == one(documents, "Deployment")["spec"]["selector"]["matchLabels"]
    assert one(served, "Deployment")["spec"]["replicas"] == 1


@pytest.mark.parametrize("of_serve", [False, True], ids=["worker", "serve"])
def test_a_file_of_endpoints_is_a_secret_that_all_read_and_only_workers_have_a_way_to_these(
    folders: dict[str, Path], of_serve: bool
) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    every = [one for one in _documents(folders["with-endpoints"]) if is_of_serve(one) == of_serve]
    [mounted] = [one for one in container(every)["volumeMounts"] if one["name"] == "webhook-endpoints"]
    [volume] = [one for one in pod(every)["volumes"] if one["name"] == "webhook-endpoints"]
    [named] = [one["value"] for one in container(every)["env"] if one["name"] == ENDPOINTS]
    open_ports = [rule for rule in one(every, "NetworkPolicy")["spec"]["egress"] if "to" in rule]

    kubernetes_validate.validate(one(every, "Deployment"), NEWEST, strict=True)
    kubernetes_validate.validate(one(every, "NetworkPolicy"), NEWEST, strict=True)
    assert volume["secret"] == {"secretName": "media-webhook-endpoints", "defaultMode": 0o440}
    assert (Path(named).parent, mounted["readOnly"]) == (Path(mounted["mountPath"]), True)
    assert f"--from-file={Path(named).name}\n" in PAGE
    assert ENDPOINTS.removeprefix("MEDIA_").lower() in Settings.model_fields
    assert len(open_ports) == (0 if of_serve else 1)


def test_a_misspelt_field_is_noticed(folders: dict[str, Path]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    text = kustomize(folders["base"]).replace("runAsNonRoot", "runAsNonRot")
    deployment = one(yaml.safe_load_all(text), "Deployment")

    with pytest.raises(kubernetes_validate.ValidationError, match="runAsNonRot"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@each
def test_a_worker_has_the_limits_that_it_is_made_for_and_takes_them_as_its_budget(
    documents: list[Document],
) -> None:
    resources = container(documents)["resources"]
    budget = next(entry for entry in container(documents)["env"] if entry["name"] == "MEDIA_MEMORY_MB")

    assert resources["limits"] == {"cpu": "1", "memory": f"{Settings.model_fields['memory_mb'].default}Mi"}
    assert resources["requests"] == {"cpu": "500m", "memory": "256Mi"}
    assert budget["valueFrom"]["resourceFieldRef"]["resource"] == "limits.memory"
    assert budget["valueFrom"]["resourceFieldRef"]["divisor"] == "1Mi"


@each
def test_a_pod_has_no_right_that_the_profile_restricted_forbids(documents: list[Document]) -> None:
    of_pod, of_container = pod(documents)["securityContext"], container(documents)["securityContext"]

    assert of_pod["runAsNonRoot"] is True
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    assert of_container["readOnlyRootFilesystem"] is True
    assert pod(documents)["automountServiceAccountToken"] is False
    assert {next(iter(volume.keys() - {"name"})) for volume in pod(documents)["volumes"]} <= {
        "emptyDir",
        "persistentVolumeClaim",
    }
    labels = one(documents, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@each
def test_a_worker_has_time_to_end_what_it_has_begun_before_it_is_killed(documents: list[Document]) -> None:
    longest = Settings.model_fields["shutdown_wait"].default + _GOODBYE_S

    assert pod(documents)["terminationGracePeriodSeconds"] > longest
    assert one(documents, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


@each
def test_probes_ask_the_port_of_the_metrics_and_restart_nothing_within_a_minute(
    documents: list[Document],
) -> None:
    probes = {name: probe for name, probe in container(documents).items() if name.endswith("Probe")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    [port] = container(documents)["ports"]

    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]} == {"metrics"}
    assert settings(documents)["MEDIA_METRICS"] == f"0.0.0.0:{port['containerPort']}"
    live = probes["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] >= 60


@each
def test_what_selects_pods_selects_the_workers_and_no_others(documents: list[Document]) -> None:
    [(label, value)] = one(documents, "Deployment")["spec"]["selector"]["matchLabels"].items()
    selectors = {
        document["kind"]: document["spec"].get("selector", document["spec"].get("podSelector"))
        for document in documents
        if document["kind"] in ("Deployment", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor")
    }

    assert one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"][label] == value
    assert all(selector == {"matchLabels": {label: value}} for selector in selectors.values()), selectors


@each
def test_one_worker_at_a_time_is_drained_and_any_that_is_not_ready_in_an_outage(
    documents: list[Document],
) -> None:
    budget = one(documents, "PodDisruptionBudget")["spec"]

    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@each
def test_a_worker_reaches_its_servers_and_only_a_prometheus_reaches_it(
    documents: list[Document], name: str
) -> None:
    policy = one(documents, "NetworkPolicy")["spec"]
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    asked = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {53, 6379} <= ports
    assert ({5432, 443} <= ports) == (name in ("overlays/postgres-s3", "our-cluster"))
    assert asked == ({"metrics"} if name in ("monitored", "our-cluster") else set())
    assert all(rule["from"] for rule in policy["ingress"])


@each
def test_every_setting_is_one_that_a_worker_knows_and_no_service_adds_one(documents: list[Document]) -> None:
    given = {name for name in settings(documents) if name.startswith("MEDIA_")}

    assert given <= {f"MEDIA_{field.upper()}" for field in Settings.model_fields}
    Settings.model_validate(
        {name.removeprefix("MEDIA_").lower(): value for name, value in settings(documents).items()}
    )
    assert pod(documents)["enableServiceLinks"] is False


@each
def test_passwords_are_in_secrets_without_which_no_pod_starts(documents: list[Document]) -> None:
    from_secrets = {
        entry["name"]
        for entry in container(documents)["env"]
        if not entry["valueFrom"].get("secretKeyRef", {"optional": True}).get("optional")
    }

    assert "MEDIA_REDIS_URL" in from_secrets
    assert not [value for value in one(documents, "ConfigMap")["data"].values() if "@" in value]
    assert not [document for document in documents if document["kind"] == "Secret"]


@pytest.mark.parametrize("name", ["base"])
def test_one_worker_has_catalog_and_files_on_a_claim_that_one_node_mounts(documents: list[Document]) -> None:
    [data] = [volume for volume in pod(documents)["volumes"] if "persistentVolumeClaim" in volume]
    [mounted] = [mount for mount in container(documents)["volumeMounts"] if mount["name"] == data["name"]]
    claim = one(documents, "PersistentVolumeClaim")
    given = one(documents, "ConfigMap")["data"]

    assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert one(documents, "Deployment")["spec"]["replicas"] == 1
    assert given["MEDIA_STORAGE_URL"].startswith(f"file:{mounted['mountPath']}/")
    assert given["MEDIA_CATALOG_URL"].startswith(f"sqlite+aiosqlite:///{mounted['mountPath']}/")


@pytest.mark.parametrize("name", ["overlays/postgres-s3", "our-cluster"])
def test_many_workers_keep_nothing_of_their_own_and_come_and_go_with_the_queue(
    documents: list[Document],
) -> None:
    scaled = one(documents, "ScaledObject")["spec"]
    stream, age = (trigger["metadata"] for trigger in scaled["triggers"])

    assert is_s3(settings(documents)["MEDIA_STORAGE_URL"])
    assert not Address.of(settings(documents)["MEDIA_CATALOG_URL"]).is_file
    assert "PersistentVolumeClaim" not in {document["kind"] for document in documents}
    assert "replicas" not in one(documents, "Deployment")["spec"]
    assert scaled["scaleTargetRef"]["name"] == one(documents, "Deployment")["metadata"]["name"]
    assert scaled["minReplicaCount"] == 1
    assert stream["stream"] == Settings.model_fields["stream"].default
    assert "consumerGroup" not in stream
    assert any(f"({series.name}{{" in age["query"] for series in SERIES)


@pytest.mark.parametrize("name", ["our-cluster"])
def test_the_kustomization_of_the_page_changes_image_and_settings(documents: list[Document]) -> None:
    assert container(documents)["image"] == "registry.example.com/media-worker:0.1.0"
    assert settings(documents)["MEDIA_STORAGE_URL"] == "s3://our-bucket/media"
    [endpoint] = one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")


def alerts(groups: Any) -> dict[str, list[str]]:
    """The words of each expression; kustomize folds lines in its own way."""
    return {rule["alert"]: rule["expr"].split() for group in groups for rule in group["rules"]}


@pytest.mark.parametrize("name", ["monitored", "our-cluster"])
def test_the_alerts_are_those_that_prometheus_has_elsewhere(documents: list[Document]) -> None:
    file = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())

    assert alerts(one(documents, "PrometheusRule")["spec"]["groups"]) == alerts(file["groups"])


def test_the_secrets_of_the_page_are_those_that_the_pods_take(folders: dict[str, Path]) -> None:
    if not (BIN / "kubectl").exists():
        missing("no kubectl: SERVICES=1 make setup")
    [line] = re.findall(
        r"^kubectl --namespace media create secret generic media-worker .*", PAGE, re.MULTILINE
    )
    words = [word for word in line.split() if "…" not in word]
    command = [str(BIN / "kubectl"), *words[1:], "--dry-run=client", "--output=json"]

    secret = json.loads(subprocess.check_output(command))

    taken = [
        entry["valueFrom"]["secretKeyRef"] for entry in container(_documents(folders["base"]))["env"][:1]
    ]
    assert [(secret["metadata"]["name"], key) for key in secret["data"]] == [
        (reference["name"], reference["key"]) for reference in taken
    ]
