#!/bin/sh
# Makes a Python environment with grpcio in FOLDER and generates the stubs from the .proto files.
set -e
proto=$1
folder=$2
here=$(dirname "$0")
test -x "$folder/venv/bin/python" || python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
mkdir -p "$folder/stubs"
"$folder/venv/bin/python" -m grpc_tools.protoc -I "$proto" \
    --python_out="$folder/stubs" --grpc_python_out="$folder/stubs" "$proto"/dtask/v1/*.proto
