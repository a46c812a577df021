"""`Hold` lets no write through while somebody asks for everything to stop; reads go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fabric.storage.store import ObjectInfo, Part, Store
from fabric.storage.wrappers import Around, Chunks

Check = Callable[[], None]


class Hold(Around):
    """Asks ``check`` before every write and delete, and at every piece of a write under way.

    Args:
        check: raises FrozenError while a freeze is in force; as cheap as a look into a dictionary.
    """

    def __init__(self, inner: Store, check: Check) -> None:
        super().__init__(inner)
        self._check = check

    def put(
        self,
        key: str,
        chunks: Chunks,
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        self._check()
        return self.inner.put(
            key,
            chunks if isinstance(chunks, (list, tuple)) else self._checked(chunks),
            only_if_absent=only_if_absent,
            only_if_tag=only_if_tag,
            storage_class=storage_class,
            metadata=metadata,
            content_type=content_type,
        )

    def _checked(self, chunks: Chunks) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            self._check()
            yield chunk

    def delete(self, key: str, *, tag: str | None = None) -> None:
        self._check()
        self.inner.delete(key, tag=tag)

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        self._check()
        return self.inner.set_class(key, storage_class, tag=tag)

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        self._check()
        return self.inner.begin(key, storage_class=storage_class, metadata=metadata, content_type=content_type)

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        self._check()
        return self.inner.put_part(key, upload_id, number, data)

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        self._check()
        return self.inner.complete(key, upload_id, parts, only_if_absent=only_if_absent)

    def abort(self, key: str, upload_id: str) -> None:
        self._check()
        self.inner.abort(key, upload_id)
