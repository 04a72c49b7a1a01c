"""Where a job's artifacts are on a cluster, who may touch them, and as which address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.cluster.settings import StoreSettings, region_of
from controller.credentials import (
    credentials_of,
    endpoint_of,
    external_endpoint_of,
    region_in,
)
from fedloom.api.job import FederatedLearningJob
from fedloom.api.secret import Secret
from fedloom.artifacts import layout
from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.opening import open_store
from fedloom.artifacts.presigning import Presigner
from fedloom.artifacts.store import Store
from fedloom.errors import JobError


@dataclass(frozen=True)
class StoreAccess:
    """One job's part of an S3 store.

    Attributes:
        uri: s3://bucket/prefix/<the job's own prefix>.
        endpoint, edge_endpoint: the store's address as the cloud and as the edges see it.
        secret: the job's own one for this store; None where it is the controller's.
        secrets: by name, what else opens urls of the job's Datasets and Models.
    """

    uri: str
    endpoint: str
    edge_endpoint: str
    region: str
    credentials: S3Credentials
    secret: Secret | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict)

    def open(self) -> Store:
        """The store as this process sees it; nothing is contacted."""
        return open_store(self.uri, self.credentials, self.endpoint)

    def presigner(self) -> Presigner:
        """Signs URLs for the edges."""
        return self._presigner(self.edge_endpoint)

    def cloud_presigner(self) -> Presigner:
        """Signs URLs for pods in the cloud."""
        return self._presigner(self.endpoint)

    def _presigner(self, endpoint: str) -> Presigner:
        bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        return Presigner(endpoint, bucket, prefix, self.credentials, self.region)


def access_of(
    job: FederatedLearningJob, secret: Secret | None, default: StoreSettings | None
) -> StoreAccess:
    """Find the job's store: what spec.transmitter.s3 names, else the controller's own.

    aggDataPath without a credentialName is a place in the controller's own bucket: its credentials
    are not lent to any other. Raises JobError(`NoStore`) where there is no store to use.
    """
    s3 = job.spec.transmitter.s3 if job.spec.transmitter else None
    meta = job.metadata
    own = layout.job_prefix(meta.namespace, meta.name, meta.uid)
    if s3 is not None and secret is not None:
        endpoint = endpoint_of(secret)
        return StoreAccess(
            uri=f"{s3.agg_data_path.rstrip('/')}/{own}",
            endpoint=endpoint,
            edge_endpoint=_edge_endpoint(secret, endpoint, default),
            region=region_in(secret) or region_of(),
            credentials=S3Credentials(**credentials_of(secret)),
            secret=secret,
        )
    if default is None:
        raise JobError(
            "NoStore",
            "got no spec.transmitter.s3 with a credentialName, and the controller has no store "
            "of its own (FEDLOOM_STORE): expected one of them",
            "spec.transmitter.s3",
        )
    root = default.uri if s3 is None else s3.agg_data_path.rstrip("/")
    if _bucket(root) != _bucket(default.uri):
        raise JobError(
            "NoStore",
            f"got {root!r} without a credentialName, expected one, or the controller's own bucket "
            f"{_bucket(default.uri)!r}",
            "spec.transmitter.s3.credentialName",
        )
    return StoreAccess(
        uri=f"{root}/{own}",
        endpoint=default.endpoint,
        edge_endpoint=default.edge_endpoint,
        region=default.region,
        credentials=default.credentials,
    )


def _edge_endpoint(secret: Secret, endpoint: str, default: StoreSettings | None) -> str:
    given = external_endpoint_of(secret)
    if given:
        return given
    if default is not None and default.endpoint == endpoint:
        return default.edge_endpoint
    return endpoint


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]
