"""Lifecycle documents: read, judged on the user's own objects and reads, corrected, written in any of four dialects.

A *document* is a bucket's lifecycle configuration as S3, GCS, Azure or MinIO (the *dialects*) keep it. A *rule* is a
filter and its *actions*: move or delete a *subject* (current versions, noncurrent ones, uploads, ...) once all its
*waits* are over. A *trap* is a rule that loses money or data; a *finding* is one trap met in one rule. What a dialect
cannot say is *unsaid*: named, left out, never silently dropped; what it says otherwise is *changed*.
"""
