"""The smallest rights that each mode needs, as the document that each provider takes."""

from __future__ import annotations

from typing import Any

from fabric.core.config import StoreAddress
from fabric.core.words import Mode
from fabric.storage.azure_errors import DELETE, READ, WRITE
from fabric.storage.keys import WORK_FOLDER

AWS_POLICY_VERSION = "2012-10-17"
_AZURE_SCOPE = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Storage/storageAccounts"
_AZURE_LETTERS = {Mode.LOOK: "l", Mode.SHADOW: "l", Mode.COPY: "rawl", Mode.MOVE: "rawdl"}  # in the order Azure wants
_GCS_ROLE = {Mode.LOOK: "Look", Mode.SHADOW: "Look", Mode.COPY: "Copy", Mode.MOVE: "Move"}


def policy(address: StoreAddress, mode: Mode) -> dict[str, Any] | None:
    """Return the provider's document of the rights of ``mode``; None where a store has no such thing."""
    made = {"s3": s3_policy, "az": azure_policy, "gs": gcs_policy}.get(address.scheme)
    return None if made is None else made(address, mode)


def rights(address: StoreAddress, mode: Mode) -> str:
    """Return in one sentence the least rights that ``mode`` needs."""
    if address.scheme == "file":
        return _folder_rights(address.path)[mode]
    if address.scheme == "s3":
        return ", ".join(sorted({action for part in _statements(address, mode) for action in part["Action"]}))
    if address.scheme == "az":
        wanted = ", ".join(_azure_actions(mode))
        return f"{wanted}; or a shared access signature of the container with sp={_AZURE_LETTERS[mode]}"
    return ", ".join(_gcs_permissions(mode)) if address.scheme == "gs" else "none"


def _folder_rights(path: str) -> dict[Mode, str]:
    look = f"r-x on {path} and every folder below it; no right on any file"
    return {
        Mode.LOOK: look,
        Mode.SHADOW: look,
        Mode.COPY: f"rwx on {path} and every folder below it, r on every file",
        Mode.MOVE: f"rwx on {path} and every folder below it (which includes deleting), r on every file",
    }


# --- AWS


def s3_policy(address: StoreAddress, mode: Mode) -> dict[str, Any]:
    """Return the smallest IAM policy document for ``mode``, restricted to the bucket and its prefix."""
    return {"Version": AWS_POLICY_VERSION, "Statement": _statements(address, mode)}


def _statements(address: StoreAddress, mode: Mode) -> list[dict[str, Any]]:
    bucket, prefix = f"arn:aws:s3:::{address.bucket}", address.path.strip("/")
    below = f"{bucket}/{prefix}/*" if prefix else f"{bucket}/*"
    listing: dict[str, Any] = {"Sid": "List", "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": bucket}
    if prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": [f"{prefix}/*"]}}
    if not mode.may_write:
        return [listing]
    uploads = {
        "Sid": "Uploads",
        "Effect": "Allow",
        "Action": ["s3:ListBucketMultipartUploads"],
        "Resource": bucket,
    }
    write = [
        "s3:GetObject",
        "s3:PutObject",
        "s3:GetObjectTagging",
        "s3:PutObjectTagging",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    ]
    objects = {"Sid": "Objects", "Effect": "Allow", "Action": write, "Resource": below}
    own = below[:-1] + f"{WORK_FOLDER}/*"  # the probe cleans up after itself
    delete = {
        "Sid": "Delete",
        "Effect": "Allow",
        "Action": ["s3:DeleteObject"],
        "Resource": below if mode.may_delete else own,
    }
    return [listing, uploads, objects, delete]


# --- Azure


def azure_policy(address: StoreAddress, mode: Mode) -> dict[str, Any]:
    """Return a custom role for ``mode``, and the condition under which it is to be assigned to the container.

    A role cannot grant listing without reading, nor deleting below a folder alone: the condition narrows both.
    """
    account, _, container = address.bucket.rpartition("/")
    scope = f"{_AZURE_SCOPE}/{account or 'ACCOUNT'}/blobServices/default/containers/{container}"
    role = {
        "Name": f"Intelligent Data Fabric {mode.value} {container}",
        "IsCustom": True,
        "Description": f"What the fabric needs in mode {mode.value}",
        "Actions": [],
        "NotActions": [],
        "DataActions": _azure_actions(mode),
        "NotDataActions": [],
        "AssignableScopes": [scope],
    }
    clauses = _azure_clauses(address.path.strip("/"), mode)
    found: dict[str, Any] = {"role": role, "scope": scope}
    if clauses:
        found |= {"condition": " AND ".join(clauses), "conditionVersion": "2.0"}
    return found


def _azure_actions(mode: Mode) -> list[str]:
    return [READ, WRITE, DELETE] if mode.may_write else [READ]


def _azure_clauses(prefix: str, mode: Mode) -> list[str]:
    listing = f"ActionMatches{{'{READ}'}} AND SubOperationMatches{{'Blob.List'}}"
    path = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path]"
    asked = "@Request[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:prefix]"
    below = f"{prefix}/" if prefix else ""
    found = []
    if prefix:
        found.append(f"(!({listing}) OR {asked} StringStartsWith '{below}')")
    if not mode.may_write:
        return [f"(!(ActionMatches{{'{READ}'}} AND NOT SubOperationMatches{{'Blob.List'}}))", *found]
    if prefix:
        reading = f"ActionMatches{{'{READ}'}} AND NOT SubOperationMatches{{'Blob.List'}}"
        found.append(f"(!({reading}) OR {path} StringStartsWith '{below}')")
        found.append(f"(!(ActionMatches{{'{WRITE}'}}) OR {path} StringStartsWith '{below}')")
    if prefix or not mode.may_delete:
        own = below if mode.may_delete else f"{below}{WORK_FOLDER}/"
        found.append(f"(!(ActionMatches{{'{DELETE}'}}) OR {path} StringStartsWith '{own}')")
    return found


# --- Google


def gcs_policy(address: StoreAddress, mode: Mode) -> dict[str, Any]:
    """Return a custom role for ``mode`` and the condition of its binding to the bucket, where one narrows it.

    Replacing an object needs storage.objects.delete: in mode copy that holds below the fabric's own folder alone, so
    that nothing is replaced and no class is changed in place.
    """
    prefix = address.path.strip("/")
    below = f"{prefix}/" if prefix else ""
    if mode.may_write and not mode.may_delete:
        first = _binding(address, mode, [name for name in _gcs_permissions(mode) if name != _GCS_DELETE], below)
        own = _binding(address, mode, [_GCS_DELETE], f"{below}{WORK_FOLDER}/", "OwnFolder")
        return {"bindings": [first, own]}
    return {"bindings": [_binding(address, mode, _gcs_permissions(mode), below)]}


_GCS_DELETE = "storage.objects.delete"


def _gcs_permissions(mode: Mode) -> list[str]:
    write = ["storage.objects.create", _GCS_DELETE, "storage.objects.get"]
    return [*write, "storage.objects.list"] if mode.may_write else ["storage.objects.list"]


def _binding(address: StoreAddress, mode: Mode, permissions: list[str], below: str, suffix: str = "") -> dict[str, Any]:
    name = f"intelligentDataFabric{_GCS_ROLE[mode]}{suffix}"
    role = {
        "title": f"Intelligent Data Fabric {mode.value}{' (its own folder)' if suffix else ''}",
        "description": f"What the fabric needs in mode {mode.value}",
        "stage": "GA",
        "includedPermissions": permissions,
    }
    found: dict[str, Any] = {"roleId": name, "role": role, "resource": f"//storage.googleapis.com/{address.bucket}"}
    if below:
        found["condition"] = {"title": f"below {below}", "expression": _gcs_expression(address.bucket, below)}
    return found


def _gcs_expression(bucket: str, below: str) -> str:
    named = f"resource.name.startsWith('projects/_/buckets/{bucket}/objects/{below}')"
    listed = f"api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('{below}')"
    return f"{named} || {listed}"
