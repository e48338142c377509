#!/usr/bin/env bash
# s3fs 2026.9.0, against moto's server 5.2.5: where a block under `open(path, "wb")` raises, what was written until then
# is published (guessed: nothing is). An object that stood there is replaced by the half, one of no parts by nothing.
# `pipe_file` puts all bytes at once, and with mode="create" refuses an object that is there.
# Output seen: {'new': b'half', 'old': b'half', 'empty': b''} and FileExistsError.
source "$(dirname "$0")/_run.sh"
in_environment s3fs==2026.9.0 'moto[server]==5.2.5' <<'PY'
import os

os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
import s3fs
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(port=0, verbose=False)
server.start()
files = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{server.get_host_and_port()[1]}")
files.mkdir("bucket")
for name in ("old", "empty"):
    files.pipe_file(f"bucket/{name}", b"the whole of it")


def break_off(name, parts):
    try:
        with files.open(f"bucket/{name}", "wb") as stream:
            for part in parts:
                stream.write(part)
            raise RuntimeError("broken off")
    except RuntimeError:
        pass


break_off("new", [b"half"])
break_off("old", [b"half"])
break_off("empty", [])
files.invalidate_cache()
found = {name: files.cat_file(f"bucket/{name}") for name in ("new", "old", "empty")}
print(found)
assert found == {"new": b"half", "old": b"half", "empty": b""}
try:
    files.pipe_file("bucket/old", b"another", mode="create")
except FileExistsError as error:
    print("FileExistsError", error)
else:
    raise AssertionError("an object that is there was replaced")
server.stop()
PY
