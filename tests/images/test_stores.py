import pytest

from imgclf import ImgclfError
from imgclf.images import stores


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:secret@bucket/fruit",
        "s3://AKIA:abc/secret@bucket/fruit",
        "s3://AKIA:abc/secret/x@bucket/photos@home",
        "s3://AKIA:/secret@bucket/fruit",
        "s3:///AKIA:abc/secret@bucket/fruit",
        "S3://AKIA:abc/secret@bucket/fruit",
        "s3://key%3Asecret@bucket/fruit",
        "s3://key%3asecret%40bucket/fruit",
        "s3://AKIA%3Aabc/secret%40bucket/fruit",
        "s3://AKIA%3Aabc%2Fsecret@bucket/fruit",
        "s3://:secret@bucket/fruit",
        "s3://secret@bucket/fruit",
        "https://secret@host/x",
        "https://user:443/secret@host/x",
        "https://user:secret@[::1]:9000/x",
        "gs://secret%40bucket/fruit",
        "abfs://account:secret@account.dfs.core.windows.net/fruit",
        "abfs://account:abc/secret@account.dfs.core.windows.net/fruit",
        "abfs://container%2Fsecret@account.dfs.core.windows.net/fruit",
        "abfs://account:secret@container@account.dfs.core.windows.net/fruit",
        "abfs://container@account.dfs.core.windows.net/fruit?sv=1&sig=secret",
        "https://host/x?X-Amz-Signature=secret",
        "https://host/x%3FX-Amz-Signature=secret",
        "s3://bucket?secret",
        "zip://fruit::s3://AKIA:abc/secret@bucket/fruit.zip",
    ],
)
def test_url_with_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(
        ImgclfError, match="^images_dir: the URL holds a user name, .*; leave it out, and set up the"
    ) as caught:
        stores.checked(url, source="images_dir")
    assert not any(part in str(caught.value) for part in ("secret", "AKIA", "bucket", "host"))


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/fruit",
        "s3://bucket/a@b.jpg",
        "s3://bucket/photos@home/x",
        "s3://bucket/photos%40home/10:30@noon",
        "gs://bucket/photos@home",
        "https://host:9000/fruit",
        "http://[::1]:9000/fruit",
        "abfs://container@account.dfs.core.windows.net/fruit",
        "abfss://container@account.dfs.core.windows.net/photos@home",
        "ABFSS://container@account.dfs.core.windows.net/fruit",
        "memory://photos@home/10:30@noon",
        "file:///C:/photos@home",
    ],
)
def test_url_without_a_secret_is_accepted(url):
    assert stores.checked(f"{url}/", source="images_dir") == url


def test_malformed_url_is_refused_and_not_repeated():
    with pytest.raises(
        ImgclfError, match="^images_dir: the URL is malformed; write it like s3://bucket/folder$"
    ):
        stores.checked("s3://[b]/x", source="images_dir")


def test_url_without_a_bucket_is_refused():
    with pytest.raises(ImgclfError, match="^images_dir=s3://: the URL has no name of a bucket or folder"):
        stores.checked("s3://", source="images_dir")
