"""Models of the Hub are fetched once, whole and verified, by the real library, from a server that behaves and misbehaves."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

import imgclf
from imgclf import ImgclfError, files
from imgclf.networks.hub import repository
from support import small_disks
from support.hub_server import TOKEN, Hub

NAME = "hf/acme/net"
CONTENT = bytes(range(256)) * 12000  # 3 MB of weights
FILES = {
    "config.json": json.dumps({"model_type": "vit"}).encode(),
    "preprocessor_config.json": b"{}",
    "model.safetensors": CONTENT,
}
SHARDS = {"model-00001-of-00002.safetensors": b"1" * 1000, "model-00002-of-00002.safetensors": b"2" * 2000}
INDEX = json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}).encode()


def fetched(name: str = NAME) -> Path:
    """The folder of a model with its weights."""
    return repository.fetch(repository.find(name))


def refusal(name: str = NAME) -> str:
    """The message with which a model is refused."""
    with pytest.raises(ImgclfError) as caught:
        fetched(name)
    return str(caught.value)


def kept(data_dir: Path) -> set[str]:
    """The files in the data folder, without locks and records."""
    found = {path for path in data_dir.rglob("*") if path.is_file() and not path.name.startswith(".")}
    return {path.name for path in found} - {repository.RECORD, repository.REVISIONS}


def test_a_model_is_kept_at_its_commit_with_its_files_and_nothing_else(hub: Hub, data_dir, tmp_path):
    commit = hub.publish("acme/net", {**FILES, "README.md": b"card", "pytorch_model.bin": b"pickle"})
    folder = fetched()
    assert folder == data_dir / "networks" / "hf" / "acme" / "net" / commit
    assert kept(data_dir) == set(FILES)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert not (tmp_path / "hf_home").exists()  # no second copy of the weights


def test_settings_and_licence_come_before_the_weights(hub: Hub, data_dir):
    hub.publish("acme/net", FILES, card={"license": "cc-by-4.0"})
    found = repository.find(NAME)
    assert str(found) == "licence cc-by-4.0, weights of 3.1 MB"
    assert kept(data_dir) == {"config.json", "preprocessor_config.json"} and hub.offsets == []


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ({}, "its card states no licence"),
        ({"license": "other", "license_name": "acme-1.0"}, "licence acme-1.0"),
        ({"license": ["mit", "apache-2.0"]}, "licence mit, apache-2.0"),
        ({"license": "mit\x1b[2J\n" + "x" * 1000}, "licence mit[2J" + "x" * 54),
    ],
)
def test_a_licence_is_one_line_as_the_card_states_it(hub: Hub, card, text):
    hub.publish("acme/net", FILES, card=card)
    assert str(repository.find(NAME)) == f"{text}, weights of 3.1 MB"


def test_a_later_run_asks_nothing(hub: Hub):
    hub.publish("acme/net", FILES)
    fetched()
    hub.asked.clear()
    assert fetched() and hub.asked == []


def test_a_later_run_needs_neither_a_network_nor_huggingface_hub(hub: Hub, data_dir):
    hub.publish("acme/net", FILES)
    fetched()
    code = (
        "import sys\nsys.modules['huggingface_hub'] = None\n"
        "def listen(event, arguments):\n"
        "    assert event not in ('socket.connect', 'socket.getaddrinfo'), arguments\n"
        "sys.addaudithook(listen)\n"
        "from imgclf.networks.hub import repository\n"
        f"print(repository.fetch(repository.find({NAME!r})).name)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert re.fullmatch("[0-9a-f]{40}\n", ended.stdout), ended.stderr


def test_a_name_without_a_revision_stays_at_the_commit_that_is_kept(hub: Hub):
    first = hub.publish("acme/net", FILES)
    repository.find(NAME)
    second = hub.publish("acme/net", {**FILES, "model.safetensors": b"newer"})
    assert repository.find(NAME).revision == first
    assert repository.find(f"{NAME}@{second}").revision == second
    assert repository.find(NAME).revision == first


def test_the_pinned_name_brings_the_same_files_on_another_machine(hub: Hub, tmp_path, monkeypatch):
    hub.publish("acme/net", FILES)
    pinned = repository.find(NAME).pinned
    hub.publish("acme/net", {**FILES, "model.safetensors": b"newer"})
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "another"))
    assert (fetched(pinned) / "model.safetensors").read_bytes() == CONTENT


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1"])
def test_a_revision_may_be_a_tag_or_a_pull_request(hub: Hub, revision):
    commit = hub.publish("acme/net", FILES, tags=(revision,))
    hub.publish("acme/net", {**FILES, "model.safetensors": b"newer"})
    assert repository.find(f"{NAME}@{revision}").revision == commit
    hub.asked.clear()
    assert repository.find(f"{NAME}@{revision}").revision == commit and hub.asked == []


def test_weights_in_several_files_are_those_of_the_index(hub: Hub, data_dir):
    settings = {"config.json": FILES["config.json"], repository.INDEX: INDEX}
    hub.publish("acme/net", {**settings, **SHARDS, "other.safetensors": b"3"})
    calls = []
    repository.fetch(repository.find(NAME), progress=lambda here, whole: calls.append((here, whole)))
    assert kept(data_dir) == {*settings, *SHARDS}
    assert calls[-1] == (3000, 3000) and [here for here, _ in calls] == sorted(here for here, _ in calls)


@pytest.mark.parametrize(
    "named", ["../../../escape.safetensors", "/etc/x.safetensors", "a.bin", "gone.safetensors"]
)
def test_an_index_cannot_name_files_elsewhere(hub: Hub, named, data_dir):
    index = json.dumps({"weight_map": {"a": named}}).encode()
    hub.publish("acme/net", {"config.json": b"{}", repository.INDEX: index, "a.bin": b"x", "../x": b"x"})
    assert refusal() == (
        f"{NAME}: its model.safetensors.index.json names '{named}', which is no safetensors file beside it; "
        "choose another model"
    )
    assert not list(data_dir.rglob("*acme*"))


def test_file_names_that_leave_the_folder_are_not_fetched(hub: Hub, data_dir):
    hub.publish("acme/net", {**FILES, "../../evil.py": b"x", "/etc/evil": b"x", "C:\\evil.safetensors": b"x"})
    fetched()
    assert kept(data_dir) == set(FILES) and not any("evil" in path for path in hub.paths())


def test_a_cut_connection_is_resumed_at_its_byte(hub: Hub):
    hub.publish("acme/net", FILES)
    hub.breaks = [1_000_000, 500_000]
    assert (fetched() / "model.safetensors").read_bytes() == CONTENT
    assert hub.offsets == [0, 1_000_000, 1_500_000]


def test_a_later_run_resumes_a_download_that_failed(hub: Hub, data_dir):
    hub.publish("acme/net", FILES)
    hub.breaks = [1_000_000, 0, 0]
    assert re.fullmatch(
        r"model\.safetensors: could not be fetched \(the connection broke before the response was complete\); "
        r"the 1 MB that came are kept; run again on another network, or fetch "
        rf"{hub.url}/acme/net/resolve/\w{{40}}/model\.safetensors by other means and put it at "
        rf"{data_dir}/networks/hf/acme/net/\w{{40}}/model\.safetensors",
        refusal(),
    )
    hub.offsets.clear()
    assert (fetched() / "model.safetensors").read_bytes() == CONTENT
    assert hub.offsets == [1_000_000]


def test_weights_put_by_hand_are_used(hub: Hub):
    hub.publish("acme/net", FILES)
    (repository.find(NAME).folder / "model.safetensors").write_bytes(CONTENT)
    fetched()
    assert hub.offsets == []


def test_weights_with_another_hash_are_refused_and_removed(hub: Hub, data_dir):
    hub.publish("acme/net", FILES, hashes={"model.safetensors": "0" * 64})
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    assert (
        f"/model.safetensors: returns another file than the Hub has for {NAME} (its sha256 begins with {digits})"
        in refusal()
    )
    assert "model.safetensors" not in kept(data_dir)


@pytest.mark.parametrize("file", FILES)
def test_a_kept_file_that_is_damaged_is_named(hub: Hub, file):
    hub.publish("acme/net", FILES)
    path = fetched() / file
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert refusal().startswith(
        f"{path}: is another file than the Hub has for {NAME}, or damaged (its sha256 "
    )
    path.unlink()
    if file == "model.safetensors":
        assert (fetched() / file).read_bytes() == CONTENT
    else:
        record = path.with_name(repository.RECORD)
        assert refusal() == f"{path}: is missing; delete {record} and run again"
        record.unlink()
        assert (fetched() / file).read_bytes() == FILES[file]


@pytest.mark.parametrize("content", ["{", "[]", '{"licence": "mit", "files": {"a": 1}}', '{"files": {}}'])
def test_a_damaged_record_is_named(hub: Hub, content):
    hub.publish("acme/net", FILES)
    record = fetched() / repository.RECORD
    record.write_text(content)
    assert refusal().startswith(f"{record}: ") and "delete it and run again" in refusal()


def test_a_record_cannot_name_files_elsewhere(hub: Hub):
    hub.publish("acme/net", FILES)
    record = fetched() / repository.RECORD
    files = {"../../../evil.safetensors": {"size": 1, "digest": "0" * 64}}
    record.write_text(json.dumps({"licence": "mit", "files": files}))
    assert refusal() == f"{record}: damaged; delete it and run again"


def test_concurrent_runs_fetch_a_model_once(hub: Hub):
    hub.publish("acme/net", FILES)
    threads = [threading.Thread(target=fetched) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub.offsets == [0]


def test_a_model_that_does_not_exist_may_be_a_private_one(hub: Hub, monkeypatch, data_dir):
    sentence = (
        f"hf/acme/nothing: {hub.url} has no such model, or a private one (HTTP %d); correct the name, or set "
        "HF_TOKEN to a token of an account that may read it"
    )
    assert refusal("hf/acme/nothing") == sentence % 401
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert refusal("hf/acme/nothing") == sentence % 404
    assert not list(data_dir.rglob("nothing"))


def test_a_private_model_needs_the_token(hub: Hub, monkeypatch):
    hub.publish("acme/net", FILES, private=True)
    assert "or a private one (HTTP 401)" in refusal()
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "or a private one (HTTP 404)" in refusal()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (fetched() / "model.safetensors").read_bytes() == CONTENT


def test_the_token_of_a_login_is_used(hub: Hub, tmp_path):
    hub.publish("acme/net", FILES, private=True)
    (tmp_path / "hf_home").mkdir()
    (tmp_path / "hf_home" / "token").write_text(TOKEN)
    assert fetched()


def test_a_gated_model_names_the_page_of_its_terms(hub: Hub, monkeypatch, data_dir):
    hub.publish("acme/net", FILES, gated="manual")
    sentence = (
        f"{NAME}: is gated; accept its terms at {hub.url}/acme/net, and set HF_TOKEN to a token of the account "
        "that did (a request may have to be granted first)"
    )
    assert refusal() == sentence
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert refusal() == sentence
    assert kept(data_dir) == set()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetched()


def test_the_token_is_not_sent_to_the_server_of_the_weights(hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.publish("acme/net", FILES, private=True)
    fetched()
    assert {had_token for _, path, had_token in hub.asked if path.startswith("/lfs/")} == {False}
    assert {had_token for _, path, had_token in hub.asked if not path.startswith("/lfs/")} == {True}


def test_a_wrong_token_is_said_to_be_wrong(hub: Hub, monkeypatch):
    hub.publish("acme/net", FILES)
    hub.invalid.add("hf_expired")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert refusal() == f"{hub.url}: does not accept the token; correct HF_TOKEN, or run hf auth login"


@pytest.mark.parametrize("revision", ["v9", "0" * 40])
def test_a_revision_that_does_not_exist_is_named(hub: Hub, revision):
    hub.publish("acme/net", FILES)
    assert refusal(f"{NAME}@{revision}") == (
        f"{NAME}: has no revision {revision}; name a branch, a tag or a commit of "
        f"{hub.url}/acme/net/commits/main, or none: backbone={NAME}"
    )


@pytest.mark.parametrize("name", ["hf/acme/a--b", "hf/acme/a..b", "hf/acme/net."])
def test_a_name_that_the_hub_does_not_allow_is_refused_without_a_request(hub: Hub, name):
    assert refusal(name).startswith(f"backbone='{name}': not a name of the Hub; ")
    assert hub.asked == []


def test_a_model_with_pickled_weights_alone_is_refused(hub: Hub, data_dir):
    hub.publish("acme/net", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    assert refusal() == (
        f"{NAME}: has no model.safetensors, but pytorch_model.bin, a format that can run code when it is read; "
        "choose a model, or a revision (hf/OWNER/NAME@REVISION), that has it"
    )
    assert not list(data_dir.rglob("*acme*"))


def test_a_model_without_weights_or_settings_is_refused(hub: Hub):
    hub.publish("acme/net", {"config.json": b"{}"})
    assert "has no model.safetensors, nor its index; choose" in refusal()
    hub.publish("acme/gguf", {"model.gguf": b"x"})
    assert refusal("hf/acme/gguf") == (
        "hf/acme/gguf: has no config.json, so transformers cannot read it; choose another model"
    )


def test_code_of_a_model_is_refused_before_its_weights_come(hub: Hub, data_dir):
    config = json.dumps({"model_type": "new", "auto_map": {"AutoModel": "modeling.Net"}}).encode()
    hub.publish("acme/net", {**FILES, "config.json": config, "modeling.py": b"raise SystemExit"})
    assert refusal() == (
        f"{NAME}: needs Python code of its repository (auto_map in its config.json), which is never run; choose "
        "a model that transformers has built in"
    )
    assert hub.offsets == [] and not list(data_dir.rglob("*acme*"))


def test_a_commit_that_cannot_be_used_leaves_the_others(hub: Hub):
    first = hub.publish("acme/net", FILES)
    folder = fetched()
    config = json.dumps({"auto_map": {"AutoModel": "modeling.Net"}}).encode()
    second = hub.publish("acme/net", {**FILES, "config.json": config})
    assert "needs Python code" in refusal(f"{NAME}@{second}")
    assert not folder.with_name(second).exists()
    hub.asked.clear()
    assert fetched() == folder == folder.with_name(first) and hub.asked == []


def test_files_put_by_hand_stay_if_the_model_cannot_be_used(hub: Hub, data_dir):
    commit = hub.publish("acme/net", {**FILES, "config.json": b'{"auto_map": {"AutoModel": "a.B"}}'})
    weights = data_dir / "networks" / "hf" / "acme" / "net" / commit / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(CONTENT)
    assert "needs Python code" in refusal()
    assert weights.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.part"])
def test_a_commit_stays_while_another_run_fetches_its_weights(hub: Hub, name):
    hub.publish("acme/net", FILES)
    folder = repository.find(NAME).folder
    (folder / name).write_bytes(CONTENT)
    repository.discard(folder)
    assert (folder / name).exists() and (folder / "config.json").exists()


def test_a_commit_is_removed_after_the_run_that_works_on_its_model(hub: Hub, data_dir):
    hub.publish("acme/net", FILES)
    folder = repository.find(NAME).folder
    with ThreadPoolExecutor() as threads:
        with files.lock(folder.parent):
            removed = threads.submit(repository.discard, folder)
            assert not wait([removed], timeout=0.3).done and (folder / "config.json").exists()
        removed.result(20)
    assert not list(data_dir.rglob("*acme*"))


@pytest.mark.parametrize("config", [b"[1]", b"not JSON", b"\xff\xfe", b"[" * 100_000])
def test_settings_that_are_no_json_object_are_refused(hub: Hub, config):
    hub.publish("acme/net", {**FILES, "config.json": config})
    assert re.fullmatch(
        rf"{NAME}: its config\.json cannot be used \((damaged|no JSON object)\); choose another model",
        refusal(),
    )


def test_huge_settings_are_refused_before_they_come(hub: Hub):
    hub.publish("acme/net", {**FILES, "config.json": b" " * 2_000_000})
    assert refusal() == f"{NAME}: its config.json has 2,000,000 bytes; choose another model"
    assert ("GET", "config.json") not in [(method, path.rpartition("/")[2]) for method, path, _ in hub.asked]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_body_without_end_is_cut_at_the_size_that_the_hub_stated(hub: Hub, file, data_dir):
    hub.publish("acme/net", FILES)
    hub.endless = {file}
    size = len(FILES[file])
    assert refusal().startswith(f"{file}: could not be fetched (the server sends more than {size:,} bytes); ")
    assert sum(path.stat().st_size for path in data_dir.rglob("*.part")) == 0


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_redirects_in_a_circle_end(hub: Hub, file):
    hub.publish("acme/net", FILES)
    hub.loops = {file}
    assert "redirects" in refusal() and len(hub.asked) < 60


@pytest.mark.parametrize(
    "answer",
    [b"<html>log in</html>", b"[]", b"{}", b'{"id": "a", "sha": "../../x"}', b'{"id": 1, "siblings": 3}'],
)
def test_another_server_than_a_hub_is_recognized(hub: Hub, answer):
    hub.answers = [answer]
    assert refusal() == (
        f"{hub.url}: does not answer as the Hugging Face Hub does, perhaps the page of a proxy or a login; "
        "correct HF_ENDPOINT, or run again on another network"
    )


def test_a_server_that_answers_with_another_commit_is_refused(hub: Hub, data_dir):
    commit = hub.publish("acme/net", FILES)
    asked = "1" * 40
    hub.models["acme/net"].revisions[asked] = hub.models["acme/net"].revisions[commit]
    assert refusal(f"{NAME}@{asked}") == (
        f"{hub.url}: returns commit {commit} of {NAME} instead of {asked}; correct HF_ENDPOINT or the revision"
    )


def test_a_busy_server_is_asked_again(hub: Hub):
    hub.publish("acme/net", FILES)
    hub.statuses = [503, 429]
    assert fetched()


def test_a_server_that_stays_busy_is_given_up(hub: Hub, data_dir):
    hub.publish("acme/net", FILES)
    hub.statuses = [503] * 9
    assert refusal() == (
        f"{NAME}: is not in {data_dir}/networks/hf yet, and {hub.url} could not be asked (HTTP 503 Service "
        "Unavailable); run again on another network, or copy its folder there from a machine that has it"
    )
    assert len(hub.statuses) == 6


def test_without_a_network_a_model_that_is_not_kept_is_refused(hub: Hub, data_dir, monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    assert re.fullmatch(
        rf"{NAME}: is not in {data_dir}/networks/hf yet, and {url} could not be asked \(.*refused.*\); run again "
        "on another network, or copy its folder there from a machine that has it",
        refusal(),
    )


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_nothing_is_asked(hub: Hub, data_dir, monkeypatch, name):
    hub.publish("acme/net", FILES)
    monkeypatch.setenv(name, "1")
    assert refusal() == (
        f"{NAME}: is not in {data_dir}/networks/hf yet, and {name} is set; unset it, or copy its folder there "
        "from a machine that has it"
    )
    assert hub.asked == []


def test_offline_weights_that_did_not_come_are_refused(hub: Hub, monkeypatch):
    hub.publish("acme/net", FILES)
    path = repository.find(NAME).folder / "model.safetensors"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refusal() == (
        f"{path}: is not there yet, and HF_HUB_OFFLINE is set; unset it, or copy the file there from a machine "
        "that has it"
    )
    assert hub.offsets == []


def test_offline_settings_alone_in_the_cache_are_not_enough(hub: Hub, monkeypatch):
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    hub.publish("acme/net", FILES)
    hf_hub_download("acme/net", "config.json", endpoint=hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ": is not in " in refusal()


def test_offline_a_kept_model_is_used(hub: Hub, monkeypatch):
    hub.publish("acme/net", FILES)
    fetched()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetched()


@pytest.mark.parametrize("is_offline", [True, False])
def test_the_cache_of_huggingface_hub_saves_the_download(hub: Hub, monkeypatch, is_offline):
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    commit = hub.publish(
        "acme/net",
        {**FILES, "onnx/model.onnx": b"net", "README.md": b"---\nlicense: mit\n---\nA card."},
        card={"license": "mit"},
    )
    snapshot_download("acme/net", endpoint=hub.url)
    hub.asked.clear()
    hub.offsets.clear()
    if is_offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = repository.find(NAME)
    assert (found.revision, found.licence) == (commit, "mit")
    assert (fetched() / "model.safetensors").read_bytes() == CONTENT
    assert hub.offsets == [] and (hub.asked == []) == is_offline
    assert not (fetched() / "model.safetensors").is_symlink()


def test_a_damaged_file_in_that_cache_is_not_used(hub: Hub):
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    hub.publish("acme/net", FILES)
    Path(hf_hub_download("acme/net", "model.safetensors", endpoint=hub.url)).write_bytes(b"damaged")
    hub.offsets.clear()
    assert (fetched() / "model.safetensors").read_bytes() == CONTENT
    assert hub.offsets == [0]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("HTTP_PROXY", "socks9://nowhere", "the proxy set in the environment cannot be used"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE=/nowhere.pem: cannot be used"),
    ],
)
def test_a_wrong_network_setting_is_named(hub: Hub, monkeypatch, name, value, text):
    from huggingface_hub.utils import close_session

    hub.publish("acme/net", FILES)
    monkeypatch.setenv(name, value)
    close_session()
    assert refusal().startswith(text)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "file:///etc", "https://"])
def test_an_endpoint_that_is_no_url_is_named(hub: Hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert refusal() == (
        f"HF_ENDPOINT={endpoint.rstrip('/')}: must begin with https:// or http://; correct or unset it"
    )


def test_without_the_extra_the_error_says_how_to_install_it(hub: Hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refusal() == (
        "a model of the Hugging Face Hub needs packages that are not installed; pip install 'imgclf[hub]'"
    )


def test_a_full_disk_is_reported_and_the_download_resumes_later(hub: Hub, tmp_path, monkeypatch):
    hub.publish("acme/net", FILES)
    with small_disks.mounted(tmp_path / "disk", megabytes=2) as disk:
        monkeypatch.setenv("IMGCLF_DATA", str(disk))
        assert re.fullmatch(
            r"cannot write .*model\.safetensors\.part: the disk is full; free some space and run again",
            refusal(),
        )
        small_disks.remount(disk, "size=8m")
        assert (fetched() / "model.safetensors").read_bytes() == CONTENT
        assert len(hub.offsets) == 2 and hub.offsets[1] > 1_000_000


def test_the_hub_learns_nothing_but_the_names_and_versions_of_three_programs(hub: Hub, tmp_path):
    hub.publish("acme/net", FILES)
    environment = {name: text for name, text in os.environ.items() if "TELEMETRY" not in name}
    code = f"from imgclf.networks.hub import repository\nrepository.fetch(repository.find({NAME!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    version = re.escape(imgclf.__version__)
    known = (
        rf"imgclf/{version}; hf_hub/[\d.]+; python/[\d.]+|imgclf/{version} \(fetches a pretrained network\)"
    )
    assert [agent for agent in hub.agents if not re.fullmatch(known, agent)] == []
    assert not any("harness" in path or "telemetry" in path for path in hub.paths())
    assert not (tmp_path / "hf_home").exists()
